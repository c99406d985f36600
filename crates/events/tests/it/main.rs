//! The bus within a process, and between two over a Redis that fails.
#![cfg(test)]

mod bridged;
mod local;
