//! Flows as their authors and callers see them.
#![cfg(test)]

mod bed;
mod crashes;
mod definitions;
mod documents;
mod metered;
mod runs;
mod upstream;
mod watching;
