//! Checks of the tree that no other tool makes.

fn main() {}
