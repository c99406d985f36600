# Thin: what each target does is in the script or tool it calls.
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: run test lint fmt bench

run: ## build and start a demo on this machine
	cargo build --release --package ledgerline
	$(TARGET)/release/ledgerline serve --dev

test: ## format, lints, tidy, documentation, all tests
	scripts/test

lint: ## format, lints, tidy, documentation
	scripts/lint

fmt: ## format the code
	cargo fmt --all

bench: ## measure against the floors, offline; results in bench/results
	bench/run
