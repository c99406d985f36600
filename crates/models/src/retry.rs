//! Whether a failed attempt is followed by another, and when.

use std::time::Duration;

use crate::{CallError, Phase, RoutingConfig};

impl CallError {
    /// Another attempt may do better. Asked only before the client has got a byte.
    ///
    /// Also true where the upstream may have worked for nothing: what it then asks for is the
    /// operator's cost, never the customer's. A request the upstream does not take stays refused.
    pub fn is_worth_another(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Broken(_) | Self::Timeout(Phase::FirstToken) => true,
            Self::Refused(refusal) => matches!(refusal.status, 408 | 425 | 429 | 500..=599),
            Self::Timeout(Phase::Idle | Phase::Total) | Self::TooLarge(_) | Self::CutOff => false,
        }
    }

    /// The upstream is to blame: what the caller has sent could not have brought it about.
    pub(crate) fn is_the_upstreams(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Broken(_) | Self::Timeout(Phase::FirstToken | Phase::Idle) => {
                true
            }
            Self::Refused(refusal) => {
                matches!(refusal.status, 401 | 402 | 404 | 408 | 425 | 429 | 500..=599)
            }
            // A long answer takes its time.
            Self::Timeout(Phase::Total) | Self::TooLarge(_) | Self::CutOff => false,
        }
    }

    /// How long the upstream wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) if matches!(refusal.status, 429 | 500..=599) => {
                refusal.retry_after
            }
            _ => None,
        }
    }
}

impl RoutingConfig {
    /// How long to wait before the n-th round over the same routes, from 1: doubled each time, and
    /// half of it by chance (`any` is any number), so that callers do not come back together.
    pub fn pause(&self, round: u32, any: u32) -> Duration {
        let doubled = self.backoff_ms.saturating_mul(1 << round.saturating_sub(1).min(20));
        let longest = doubled.min(self.longest_backoff_ms);
        let half = longest / 2;
        Duration::from_millis(half + u64::from(any) % (longest - half + 1))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Refusal;

    fn refused(status: u16) -> CallError {
        let retry_after = Some(Duration::from_secs(7));
        CallError::Refused(Box::new(Refusal { status, body: Bytes::new(), retry_after }))
    }

    #[test]
    fn what_the_caller_did_wrong_is_neither_repeated_nor_blamed_on_the_upstream() {
        for status in [400, 403, 413, 422] {
            assert!(!refused(status).is_worth_another() && !refused(status).is_the_upstreams());
        }
        for status in [408, 425, 429, 500, 503, 529] {
            assert!(refused(status).is_worth_another() && refused(status).is_the_upstreams());
        }
        for status in [401, 402, 404] {
            assert!(!refused(status).is_worth_another() && refused(status).is_the_upstreams());
        }
        assert!(!CallError::Timeout(Phase::Total).is_the_upstreams());
        assert_eq!(refused(429).retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(refused(400).retry_after(), None);
    }

    #[test]
    fn pauses_grow_within_their_bounds() {
        let config = RoutingConfig {
            backoff_ms: 100,
            longest_backoff_ms: 1_000,
            ..RoutingConfig::default()
        };
        for (round, low, high) in [(1, 50, 100), (2, 100, 200), (3, 200, 400), (40, 500, 1_000)] {
            for any in [0, 1, 49, 12_345, u32::MAX] {
                let pause = config.pause(round, any).as_millis();
                assert!((low..=high).contains(&pause), "{round}: {pause}");
            }
        }
        let none = RoutingConfig { backoff_ms: 0, ..config };
        assert_eq!(none.pause(1, 7), Duration::ZERO);
    }
}
