//! A place at a provider, taken for one attempt.

use std::sync::Arc;
use std::time::Instant;

use super::Route;
use crate::CallError;
use crate::health::Pass;

/// A place at a provider, taken for one attempt and given back when dropped.
#[derive(Debug)]
pub struct Place {
    route: Arc<Route>,
    fallback: Option<Arc<str>>,
    pass: Pass,
    /// The route has failed in this call before: a second failure tells nothing new about it.
    again: bool,
    told: bool,
    taken: Instant,
}

impl Place {
    /// Takes a place if the route lets one through.
    pub(super) fn take(
        route: &Arc<Route>,
        fallback: Option<&Arc<str>>,
        again: bool,
    ) -> Option<Self> {
        if !route.provider.enter() {
            return None;
        }
        let pass = if route.health.is_closed() {
            Some(Pass::Free)
        } else {
            route.health.enter(route.now())
        };
        let Some(pass) = pass else {
            route.provider.leave();
            return None;
        };
        Some(Self {
            route: Arc::clone(route),
            fallback: fallback.cloned(),
            pass,
            again,
            told: false,
            taken: Instant::now(),
        })
    }

    /// The way it is on.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The public name of the model that answers, if it is not the one asked for.
    pub const fn fallback(&self) -> Option<&Arc<str>> {
        self.fallback.as_ref()
    }

    /// The first byte of an answer is there.
    pub fn answered(&mut self) {
        self.told = true;
        let micros = u64::try_from(self.taken.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.route.health.measured(micros);
        self.route.health.succeeded(self.pass, self.route.now());
        self.pass = Pass::Free;
    }

    /// The attempt has failed, or its answer has broken off.
    pub fn failed(&mut self, error: &CallError) {
        let health = &self.route.health;
        let now = self.route.now();
        if error.is_the_upstreams() {
            if !self.again || self.pass == Pass::Probe {
                health.failed(self.pass, now);
                self.told = true;
            }
        } else if let CallError::Refused(_) = error {
            // Who refuses what the caller did wrong is well.
            health.succeeded(self.pass, now);
            self.told = true;
        }
        if let Some(span) = error.retry_after() {
            health.rest(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), now);
        }
        if self.told {
            self.pass = Pass::Free;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.route.provider.leave();
        if self.pass == Pass::Probe && !self.told {
            self.route.health.probe_is_void(self.route.now());
        }
    }
}
