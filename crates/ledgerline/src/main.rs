//! Ledgerline: a self-hosted backend for selling AI, in one binary.

mod app;
mod cli;
mod config;
mod customer;
mod descriptions;
mod dev;
mod failure;
mod logging;
#[cfg(test)]
mod matrix;
mod metrics;
mod news;
mod operate;
mod remote;
mod serve;
mod simulate;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;
use futures_util::future::LocalBoxFuture;

/// A call allocates some hundred times, on several threads: this allocator takes a tenth off a
/// call's CPU (see docs/adr/0005).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // In a box, so that it is compiled once, and not for each kind of runtime that could drive it.
    let run: LocalBoxFuture<'_, _> = Box::pin(cli::Cli::parse().run());
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            failure::complain(&error);
            failure::exit_code(&error)
        }
    }
}
