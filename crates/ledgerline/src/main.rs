//! Ledgerline: a self-hosted backend for selling AI.

fn main() {}
