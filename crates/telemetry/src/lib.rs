//! What the server tells about itself: figures for `/metrics`, and traces of calls.
//!
//! Invariants:
//! - a figure's labels come from the configuration or the code, never from a request;
//! - on a call's way nothing is looked up by text and nothing is allocated: the handles are there
//!   before ([`Counter`], [`Gauge`] and [`Histogram`] are shared cells);
//! - nothing is global: who wants figures makes [`Metrics`] and has the parts add theirs.

mod config;
mod metrics;
mod process;
mod traces;

pub use config::Config;
pub use metrics::{Counters, Histograms, Labels, Metrics, histograms, seconds, sizes};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use traces::{CallSpan, Traces, TracesError};
