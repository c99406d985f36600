//! The ways of one call, in the order to try them.

use std::time::Duration;

use super::routes::Shut;
use super::{Model, Place};

/// The ways of one call: the routes of the model asked for, then those of its fallbacks; each once
/// in a round. Takes no lock and allocates nothing.
#[derive(Debug)]
pub struct Search<'a> {
    model: &'a Model,
    /// 0 for the model's own routes, then its fallbacks.
    at: usize,
    turn: u64,
    tried: u64,
    round: u32,
}

/// Why no route of a model, nor of its fallbacks, can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// A provider that could be asked has as many calls as it may.
    #[error("every provider of the model has as many calls as it may")]
    Full,
    /// All are left alone after failures; the soonest for so long.
    #[error("every provider of the model is left alone after failures")]
    Resting(Duration),
    /// The operator has switched them off, or nothing valid says how to ask them.
    #[error("every provider of the model is switched off")]
    Off,
}

impl<'a> Search<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self { model, at: 0, turn: model.routes.turn(), tried: 0, round: 0 }
    }

    /// Takes a place on the next way; `None` when all have been tried in this round or are shut.
    pub fn take(&mut self) -> Option<Place> {
        while let Some((routes, fallback)) = self.model.ways(self.at) {
            while let Some((at, route)) = routes.next(self.tried, self.turn) {
                self.tried |= 1 << at;
                if let Some(place) = Place::take(route, fallback, self.round > 0) {
                    return Some(place);
                }
            }
            self.at += 1;
            self.tried = 0;
            self.turn = self.model.ways(self.at).map_or(0, |(routes, _)| routes.turn());
        }
        None
    }

    /// Begins another round over all ways; returns its number, from 1.
    pub fn again(&mut self) -> u32 {
        let round = self.round.saturating_add(1);
        *self = Self { round, ..Self::new(self.model) };
        round
    }

    /// Some way could be asked now, tried before or not.
    pub fn any_open(&self) -> bool {
        self.all_routes().any(|shut| shut.is_none())
    }

    /// Why no way could be taken.
    pub fn no_way(&self) -> NoWay {
        let mut why = NoWay::Off;
        for shut in self.all_routes() {
            why = match (shut, why) {
                // One that has opened since was full or is taken by another's probe.
                (None | Some(Shut::Full), _) | (_, NoWay::Full) => NoWay::Full,
                (Some(Shut::Resting(millis)), NoWay::Resting(sooner)) => {
                    NoWay::Resting(sooner.min(Duration::from_millis(millis)))
                }
                (Some(Shut::Resting(millis)), NoWay::Off) => {
                    NoWay::Resting(Duration::from_millis(millis))
                }
                (Some(Shut::Off), why) => why,
            };
        }
        why
    }

    fn all_routes(&self) -> impl Iterator<Item = Option<Shut>> + use<'a> {
        let model = self.model;
        (0..).map_while(|at| model.ways(at)).flat_map(|(routes, _)| routes.list()).map(|r| r.shut())
    }
}
