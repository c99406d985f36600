//! How a provider's model fares: a circuit breaker, and the time to its first byte.
//!
//! Time is given in milliseconds, so that what decides can be tested without waiting. All state is
//! in atomics: a call that goes well costs a few of them and no lock.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::RoutingConfig;

/// Milliseconds on a clock that never goes back.
pub(crate) type Millis = u64;

/// `shut_until` of a breaker that lets everyone through.
const CLOSED: Millis = 0;
/// A new measurement counts one part in so many.
const LATENCY_SHARE: u64 = 8;

/// How one model of one provider fares.
#[derive(Debug)]
pub(crate) struct Health {
    policy: Policy,
    /// [`CLOSED`], or the time before which nobody is let through. After it one call is, as a probe,
    /// and the time is moved on for all others.
    shut_until: AtomicU64,
    window: AtomicU64,
    first_byte_micros: AtomicU64,
}

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
struct Policy {
    failures: u64,
    percent: u64,
    least_calls: u64,
    window: Millis,
    cooldown: Millis,
    longest_rest: Millis,
}

/// How a call was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Like any other.
    Free,
    /// As the one that finds out whether the provider is back.
    Probe,
}

/// What has happened lately: four counts in one word, so that they change together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    /// Which span of time is counted.
    span: u64,
    calls: u64,
    failures: u64,
    /// Failures since the last success, whatever the span.
    in_a_row: u64,
}

/// Each count has a quarter of the word.
const MOST: u64 = 0xffff;

impl Window {
    fn unpack(word: u64) -> Self {
        let [span, calls, failures, in_a_row] = [0, 16, 32, 48].map(|bits| word >> bits & MOST);
        Self { span, calls, failures, in_a_row }
    }

    const fn pack(self) -> u64 {
        self.span | self.calls << 16 | self.failures << 32 | self.in_a_row << 48
    }

    /// One more call, in this span.
    fn with(self, span: u64, failed: bool) -> Self {
        let fresh = Self { span, in_a_row: self.in_a_row, ..Self::default() };
        let old = if self.span == span { self } else { fresh };
        Self {
            span,
            calls: (old.calls + 1).min(MOST),
            failures: (old.failures + u64::from(failed)).min(MOST),
            in_a_row: if failed { (old.in_a_row + 1).min(MOST) } else { 0 },
        }
    }
}

impl Policy {
    /// Whether what has happened lately is too much.
    fn trips(&self, window: Window) -> bool {
        let too_many_in_a_row = self.failures > 0 && window.in_a_row >= self.failures;
        let share = window.failures * 100 >= window.calls * self.percent;
        too_many_in_a_row || (self.percent > 0 && window.calls >= self.least_calls && share)
    }
}

impl Health {
    pub(crate) fn new(config: &RoutingConfig) -> Self {
        let policy = Policy {
            failures: config.breaker_failures.into(),
            percent: config.breaker_percent.into(),
            least_calls: u64::from(config.breaker_least_calls).max(1),
            window: config.breaker_window_ms.max(1),
            cooldown: config.breaker_cooldown_ms.max(1),
            longest_rest: config.longest_rest_ms,
        };
        Self {
            policy,
            shut_until: AtomicU64::new(CLOSED),
            window: AtomicU64::new(0),
            first_byte_micros: AtomicU64::new(0),
        }
    }

    /// How long it rests; 0 if it may be asked.
    pub(crate) fn rests(&self, now: Millis) -> Millis {
        self.shut_until.load(Ordering::Relaxed).saturating_sub(now)
    }

    /// It lets everyone through.
    pub(crate) fn is_closed(&self) -> bool {
        self.shut_until.load(Ordering::Relaxed) == CLOSED
    }

    /// Lets a call through, or not. After a rest one call is let through in each cooldown until one
    /// succeeds.
    pub(crate) fn enter(&self, now: Millis) -> Option<Pass> {
        let until = self.shut_until.load(Ordering::Relaxed);
        if until == CLOSED {
            return Some(Pass::Free);
        }
        if now < until {
            return None;
        }
        let next = now + self.policy.cooldown;
        let won =
            self.shut_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
        won.is_ok().then_some(Pass::Probe)
    }

    /// A call let through has been answered.
    pub(crate) fn succeeded(&self, pass: Pass, now: Millis) {
        self.count(now, false);
        if pass == Pass::Probe {
            self.window.store(0, Ordering::Relaxed);
            self.shut_until.store(CLOSED, Ordering::Relaxed);
        }
    }

    /// A call let through has failed, and the provider is to blame.
    pub(crate) fn failed(&self, pass: Pass, now: Millis) {
        let window = self.count(now, true);
        let until = now + self.policy.cooldown;
        if pass == Pass::Probe {
            self.shut_until.fetch_max(until, Ordering::Relaxed);
        } else if self.policy.trips(window) {
            // Calls that began before and fail now do not make the rest longer.
            let shut = self.shut_until.compare_exchange(
                CLOSED,
                until,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if shut.is_ok() {
                self.window.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The provider has asked for a rest.
    pub(crate) fn rest(&self, span: Millis, now: Millis) {
        let span = span.min(self.policy.longest_rest);
        if span > 0 {
            self.shut_until.fetch_max(now + span, Ordering::Relaxed);
        }
    }

    /// A probe has ended without telling anything: the next call may be one.
    pub(crate) fn probe_is_void(&self, now: Millis) {
        let shut = self.shut_until.load(Ordering::Relaxed);
        if shut != CLOSED {
            // If it has changed in this moment, that counts.
            let _changed = self.shut_until.compare_exchange(
                shut,
                now.max(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// The time to the first byte, smoothed; 0 if there was none yet.
    pub(crate) fn first_byte_micros(&self) -> u64 {
        self.first_byte_micros.load(Ordering::Relaxed)
    }

    /// A first byte has come after so long. Of two at the same moment one may be lost.
    pub(crate) fn measured(&self, micros: u64) {
        let old = self.first_byte_micros();
        let new = match old {
            0 => micros,
            old => old - old / LATENCY_SHARE + micros / LATENCY_SHARE,
        };
        self.first_byte_micros.store(new.max(1), Ordering::Relaxed);
    }

    fn count(&self, now: Millis, failed: bool) -> Window {
        let span = (now / self.policy.window) & MOST;
        let mut word = self.window.load(Ordering::Relaxed);
        loop {
            let window = Window::unpack(word).with(span, failed);
            let swapped = self.window.compare_exchange_weak(
                word,
                window.pack(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return window,
                Err(other) => word = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn health() -> Health {
        Health::new(&RoutingConfig {
            breaker_failures: 3,
            breaker_percent: 50,
            breaker_least_calls: 10,
            breaker_window_ms: 1_000,
            breaker_cooldown_ms: 100,
            longest_rest_ms: 5_000,
            ..RoutingConfig::default()
        })
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_at_a_time_closes_it() {
        let health = health();
        for now in 1..=3 {
            assert_eq!(health.enter(now), Some(Pass::Free));
            health.failed(Pass::Free, now);
        }
        assert_eq!((health.enter(50), health.rests(50)), (None, 53));
        assert_eq!((health.enter(103), health.enter(104)), (Some(Pass::Probe), None));
        health.failed(Pass::Probe, 110);
        assert_eq!((health.enter(209), health.enter(210)), (None, Some(Pass::Probe)));
        health.succeeded(Pass::Probe, 215);
        assert_eq!((health.enter(215), health.is_closed()), (Some(Pass::Free), true));
        health.failed(Pass::Free, 216);
        assert!(health.is_closed(), "what was before the probe is forgotten");
    }

    #[test]
    fn a_success_between_keeps_it_closed_until_the_share_is_too_large() {
        let health = health();
        let mut opened_after = 0;
        for call in 1..=20_u64 {
            if health.enter(1).is_none() {
                break;
            }
            opened_after = call;
            if call % 3 == 0 {
                health.succeeded(Pass::Free, 1);
            } else {
                health.failed(Pass::Free, 1);
            }
        }
        assert_eq!(opened_after, 10);
        let health = self::health();
        for call in 0..40 {
            assert!(health.enter(call * 200).is_some(), "spans are counted apart");
            if call % 2 == 0 {
                health.failed(Pass::Free, call * 200);
            } else {
                health.succeeded(Pass::Free, call * 200);
            }
        }
    }

    #[test]
    fn a_rest_asked_for_is_given_up_to_a_limit_and_a_void_probe_gives_its_place_away() {
        let health = health();
        health.rest(2_000, 10);
        assert_eq!(health.rests(10), 2_000);
        health.rest(3_600_000, 10);
        assert_eq!(health.rests(10), 5_000);
        assert_eq!(health.enter(5_010), Some(Pass::Probe));
        assert_eq!(health.enter(5_011), None);
        health.probe_is_void(5_012);
        assert_eq!(health.enter(5_012), Some(Pass::Probe));
    }

    #[test]
    fn late_failures_do_not_make_a_rest_longer() {
        let health = health();
        (0..3).for_each(|_| health.failed(Pass::Free, 1));
        (0..30).for_each(|_| health.failed(Pass::Free, 90));
        assert_eq!(health.enter(101), Some(Pass::Probe));
    }

    #[test]
    fn latency_follows_what_is_measured() {
        let health = health();
        health.measured(800);
        assert_eq!(health.first_byte_micros(), 800);
        (0..60).for_each(|_| health.measured(8_000));
        assert!((7_000..=8_000).contains(&health.first_byte_micros()));
    }

    proptest! {
        #[test]
        fn a_window_packs_and_unpacks(word: u64) {
            prop_assert_eq!(Window::unpack(word).pack(), word);
        }

        /// Whatever happens, a breaker that is asked often enough lets a probe through again.
        #[test]
        fn it_never_stays_shut(events in prop::collection::vec((0_u8..4, 0_u64..400), 0..200)) {
            let health = health();
            let mut now = 1;
            for (event, wait) in events {
                now += wait;
                let Some(pass) = health.enter(now) else { continue };
                match event {
                    0 => health.succeeded(pass, now),
                    1 => health.failed(pass, now),
                    2 => health.rest(wait * 10, now),
                    _ if pass == Pass::Probe => health.probe_is_void(now),
                    _ => {}
                }
            }
            prop_assert!(health.enter(now + 5_001).is_some());
        }
    }
}
