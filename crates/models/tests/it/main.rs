//! What the rest of the system sees of models and their routes.
#![cfg(test)]

mod descriptions;
mod routing;
