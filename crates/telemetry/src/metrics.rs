//! Figures, their names, and their text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::process::Process;

/// A figure's labels: names from the code, values from the configuration or the code.
pub type Labels = Vec<(&'static str, String)>;

/// Counters of one name, told apart by their labels.
pub type Counters = Family<Labels, Counter>;

/// Histograms of one name, told apart by their labels.
pub type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Upper bounds in seconds: from a journal's commit to a long answer.
const SECONDS: [f64; 18] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 15.0, 60.0, 300.0,
];
const SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// A histogram of durations in seconds.
pub fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// A histogram of counts up to about a thousand.
pub fn sizes() -> Histogram {
    Histogram::new(SIZES)
}

/// Histograms of durations in seconds.
pub fn histograms() -> Histograms {
    Family::new_with_constructor(seconds)
}

/// All figures of a process, by name.
#[derive(Debug, Default)]
pub struct Metrics(Registry);

impl Metrics {
    /// The figures of the process itself, and what is added.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        Self(registry)
    }

    /// Adds a figure; a counter's name is written with `_total` behind it.
    pub fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register(name, help, metric);
    }

    /// Adds a figure that is read when it is asked for.
    pub fn add_read<F>(&mut self, name: &'static str, help: &'static str, read: F)
    where
        F: Fn() -> i64 + Send + Sync + 'static,
    {
        self.0.register_collector(Box::new(Read { name, help, read }));
    }

    /// Adds figures of one name, told apart by labels, that are read when they are asked for.
    pub fn add_read_each<F>(&mut self, name: &'static str, help: &'static str, read: F)
    where
        F: Fn() -> Vec<(Labels, i64)> + Send + Sync + 'static,
    {
        self.0.register_collector(Box::new(ReadEach { name, help, read }));
    }

    /// All figures as `OpenMetrics` text, which Prometheus reads.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(32 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

struct Read<F> {
    name: &'static str,
    help: &'static str,
    read: F,
}

impl<F> fmt::Debug for Read<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Read").field(&self.name).finish()
    }
}

impl<F: Fn() -> i64 + Send + Sync + 'static> Collector for Read<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = ConstGauge::new((self.read)());
        let encoder = encoder.encode_descriptor(self.name, self.help, None, gauge.metric_type())?;
        gauge.encode(encoder)
    }
}

struct ReadEach<F> {
    name: &'static str,
    help: &'static str,
    read: F,
}

impl<F> fmt::Debug for ReadEach<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadEach").field(&self.name).finish()
    }
}

impl<F: Fn() -> Vec<(Labels, i64)> + Send + Sync + 'static> Collector for ReadEach<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (labels, value) in (self.read)() {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_with_their_names_labels_and_values() {
        let mut metrics = Metrics::new();
        let calls = Counters::default();
        metrics.add("t_calls", "Calls", calls.clone());
        metrics.add_read("t_waiting", "Waiting", || 7);
        let each = || ["one", "two"].map(|at| (vec![("at", at.to_owned())], 3)).to_vec();
        metrics.add_read_each("t_states", "States", each);
        let took = histograms();
        metrics.add("t_took_seconds", "Took", took.clone());
        calls.get_or_create(&vec![("model", "a\"b".to_owned())]).inc_by(3);
        took.get_or_create(&Vec::new()).observe(0.002);
        let text = metrics.text().unwrap();
        for line in [
            "t_calls_total{model=\"a\\\"b\"} 3",
            "t_waiting 7",
            "t_states{at=\"one\"} 3",
            "t_states{at=\"two\"} 3",
            "t_took_seconds_bucket{le=\"0.001\"} 0",
            "t_took_seconds_bucket{le=\"0.0025\"} 1",
            "process_open_fds ",
            "process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
