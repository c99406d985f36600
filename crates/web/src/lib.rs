//! The HTTP kit that every surface shares.

mod error;

pub use error::{Dialect, Error};
