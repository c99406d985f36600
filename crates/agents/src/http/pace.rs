//! How many requests one address may send in a minute.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use kernel::Timestamp;
use parking_lot::Mutex;
use web::ClientIp;

use crate::{Agents, Error};

const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that have been quiet are looked for when there are so many.
const FIRST_SWEEP: usize = 1_024;

/// The requests of the last minute, by address. Whoever has sent none in it is forgotten.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Known>);

#[derive(Debug)]
struct Known {
    sent: HashMap<Option<IpAddr>, VecDeque<Timestamp>>,
    sweep_at: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(Known { sent: HashMap::new(), sweep_at: FIRST_SWEEP }))
    }
}

impl Pace {
    /// Counts a request, unless `most` came in the minute before: then how long to wait.
    fn count(&self, from: Option<IpAddr>, most: usize, now: Timestamp) -> Result<(), Duration> {
        let known = &mut *self.0.lock();
        let recent = |at: &Timestamp| now.since(*at) < WINDOW;
        if known.sent.len() >= known.sweep_at {
            known.sent.retain(|_, sent| sent.back().is_some_and(recent));
            known.sweep_at = (2 * known.sent.len()).max(FIRST_SWEEP);
        }
        let sent = known.sent.entry(from).or_default();
        while sent.front().is_some_and(|at| !recent(at)) {
            sent.pop_front();
        }
        match sent.front() {
            Some(first) if sent.len() >= most => Err(WINDOW.saturating_sub(now.since(*first))),
            _ => {
                sent.push_back(now);
                Ok(())
            }
        }
    }
}

/// Lets through as many requests of one address as `agents.rate_limit_per_minute` says.
pub(super) async fn paced(
    State(agents): State<Agents>,
    request: Request,
    next: Next,
) -> web::Result<Response> {
    let most = agents.parts().config.rate_limit_per_minute;
    if most > 0 {
        let (parts, body) = request.into_parts();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let ClientIp(from) = ClientIp::of(&parts);
        let counted = agents.pace().count(from, most, agents.now());
        counted.map_err(|wait| Error::TooFast(most, wait))?;
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn so_many_pass_in_any_minute_and_quiet_addresses_are_forgotten() {
        let (pace, one, two) = (Pace::default(), Some([192, 0, 2, 1].into()), None);
        for second in [0, 1, 30] {
            assert_eq!(pace.count(one, 3, at(second)), Ok(()));
        }
        assert_eq!(pace.count(one, 3, at(59)), Err(Duration::from_secs(1)));
        assert_eq!(pace.count(two, 3, at(59)), Ok(()));
        assert_eq!(pace.count(one, 3, at(60)), Ok(()));
        assert_eq!(pace.count(one, 3, at(60)), Err(Duration::from_secs(1)));
        for number in 0..10_000 {
            let from = Some(std::net::Ipv4Addr::from_bits(number).into());
            assert_eq!(pace.count(from, 3, at(200 + i64::from(number))), Ok(()));
        }
        assert!(pace.0.lock().sent.len() <= FIRST_SWEEP);
    }
}
