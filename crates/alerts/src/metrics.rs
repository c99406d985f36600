//! Figures of alerts.

use telemetry::Counter;

/// What is counted of alerts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) raised: Counter,
    pub(crate) delivered: Counter,
    pub(crate) refused: Counter,
    pub(crate) given_up: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, metrics: &mut telemetry::Metrics) {
        let mut add = |name, help, counter: &Counter| metrics.add(name, help, counter.clone());
        add("ledgerline_alerts_raised", "Wallets that fell to an alert's amount", &self.raised);
        add("ledgerline_webhooks_delivered", "Webhooks that their receivers took", &self.delivered);
        add(
            "ledgerline_webhook_attempts_failed",
            "Attempts at a webhook that failed",
            &self.refused,
        );
        add("ledgerline_webhooks_failed", "Webhooks that were given up", &self.given_up);
    }
}
