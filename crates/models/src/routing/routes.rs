//! A model's own routes, and which of them is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Route;
use crate::{ConfigError, ModelConfig, ProviderState, Strategy};

/// So many routes fit into a set of those tried.
pub(crate) const MOST_ROUTES: usize = 64;
/// With least latency, one call in so many goes by weight.
const EXPLORED: u64 = 16;

/// A model's own routes: at least one, by priority.
#[derive(Debug)]
pub(crate) struct Routes {
    list: Vec<Arc<Route>>,
    strategy: Strategy,
    turn: AtomicU64,
}

/// Why a route is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// An administrator has said so, or nothing valid says how to ask.
    Off,
    /// It is left alone for so many milliseconds.
    Resting(u64),
    /// The provider has no room.
    Full,
}

impl Routes {
    pub(super) fn new(
        mut list: Vec<Arc<Route>>,
        config: &ModelConfig,
    ) -> Result<Self, ConfigError> {
        match list.len() {
            0 => return Err(ConfigError::NoRoutes(config.name.clone())),
            1..=MOST_ROUTES => {}
            _ => return Err(ConfigError::TooManyRoutes(config.name.clone())),
        }
        list.sort_by_key(|route| route.priority);
        Ok(Self { list, strategy: config.strategy, turn: AtomicU64::new(0) })
    }

    pub(super) fn list(&self) -> &[Arc<Route>] {
        &self.list
    }

    /// A call's turn; a model with one route needs none.
    pub(super) fn turn(&self) -> u64 {
        if self.list.len() == 1 { 0 } else { self.turn.fetch_add(1, Ordering::Relaxed) }
    }

    /// The route whose turn it is among those that are open and not in the set `tried`: of the
    /// lowest priority number that has any.
    pub(super) fn next(&self, tried: u64, turn: u64) -> Option<(usize, &Arc<Route>)> {
        let groups = self.list.chunk_by(|one, two| one.priority == two.priority);
        let mut first = 0;
        for group in groups {
            let open = Open { first, group, tried };
            if let Some(at) = self.choose(&open, turn) {
                return self.list.get(at).map(|route| (at, route));
            }
            first += group.len();
        }
        None
    }

    fn choose(&self, open: &Open<'_>, turn: u64) -> Option<usize> {
        match self.strategy {
            Strategy::LeastLatency if turn % EXPLORED != EXPLORED - 1 => open.soonest(),
            Strategy::LeastLatency => open.by_weight(turn / EXPLORED),
            Strategy::Weighted => open.by_weight(turn),
        }
    }
}

/// The open routes of one priority.
struct Open<'a> {
    /// The place of the group's first.
    first: usize,
    group: &'a [Arc<Route>],
    tried: u64,
}

impl Open<'_> {
    fn iter(&self) -> impl Iterator<Item = (usize, &Arc<Route>)> {
        let placed = self.group.iter().enumerate().map(|(at, route)| (self.first + at, route));
        placed.filter(|(at, route)| self.tried & (1 << at) == 0 && route.shut().is_none())
    }

    fn soonest(&self) -> Option<usize> {
        let soonest = self.iter().min_by_key(|(_, route)| route.health.first_byte_micros());
        soonest.map(|(at, _)| at)
    }

    /// Each as often as its weight says; those without weight when there are no others.
    fn by_weight(&self, turn: u64) -> Option<usize> {
        let total: u64 = self.iter().map(|(_, route)| u64::from(route.weight)).sum();
        let mut place = turn.checked_rem(total).unwrap_or(0);
        let mine = self.iter().find(|(_, route)| {
            let weight = u64::from(route.weight);
            let mine = total == 0 || place < weight;
            place = place.saturating_sub(weight);
            mine
        });
        // Between the two looks a route may have shut.
        mine.or_else(|| self.iter().next()).map(|(at, _)| at)
    }
}

impl Route {
    /// Why it cannot be asked now; `None` if it can.
    pub(super) fn shut(&self) -> Option<Shut> {
        if self.provider.state() != ProviderState::Active || !self.provider.is_described() {
            return Some(Shut::Off);
        }
        if !self.health.is_closed() {
            let rests = self.health.rests(self.now());
            if rests > 0 {
                return Some(Shut::Resting(rests));
            }
        }
        self.provider.is_full().then_some(Shut::Full)
    }
}
