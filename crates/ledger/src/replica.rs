//! How far a replica is behind, told by the operations of the books that it has.

use std::collections::VecDeque;
use std::time::Duration;

use store::{Database, Reader, Result};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

const EVERY: Duration = Duration::from_millis(200);
/// A database that has not answered by then does not.
const PATIENCE: Duration = Duration::from_secs(1);
/// Moments remembered: a replica that is further behind than they reach is just that.
const MOMENTS: usize = 3_000;

/// Measures the reader's replica, if it has one, until dropped.
pub async fn measure_replica(reader: Reader) {
    let Some(replica) = reader.replica() else { return };
    let mut turn = interval(EVERY);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut moments = Moments::default();
    loop {
        turn.tick().await;
        let now = Instant::now();
        // First the primary: what the replica then has of it, it had at this moment at the latest.
        let asked = async { Ok((head(reader.primary()).await?, head(replica).await?)) };
        let outcome = timeout(PATIENCE, asked).await.unwrap_or(Err(store::Error::TaskLost));
        reader.measured(outcome.map(|(primary, there)| (there, moments.lag(now, primary, there))));
    }
}

/// The last operation of the books.
async fn head(database: &Database) -> Result<i64> {
    let row = database.query_one("SELECT seq FROM ledger_head WHERE id = 1", &[]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// When the primary had come how far.
#[derive(Debug, Default)]
struct Moments(VecDeque<(Instant, i64)>);

impl Moments {
    /// The time since the last moment of whose operations the replica has all.
    fn lag(&mut self, now: Instant, primary: i64, there: i64) -> Duration {
        self.0.push_back((now, primary));
        while self.0.len() > MOMENTS || self.0.get(1).is_some_and(|(_, seq)| *seq <= there) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some((at, seq)) if *seq <= there => now.duration_since(*at),
            // Further behind than anybody remembers.
            _ => Duration::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_the_time_since_the_replica_had_everything() {
        let (begin, mut moments) = (Instant::now(), Moments::default());
        let mut lag = |second, primary, there| {
            moments.lag(begin + Duration::from_secs(second), primary, there)
        };
        // Nothing is known of a replica that has been behind from the beginning.
        assert_eq!(lag(0, 10, 9), Duration::MAX);
        assert_eq!(lag(1, 12, 10), Duration::from_secs(1));
        assert_eq!(lag(2, 12, 12), Duration::ZERO);
        // Where nothing is written, nothing is behind.
        assert_eq!(lag(3, 12, 12), Duration::ZERO);
        assert_eq!(lag(4, 20, 12), Duration::from_secs(1));
        assert_eq!(lag(9, 30, 19), Duration::from_secs(6));
        assert_eq!(lag(10, 30, 20), Duration::from_secs(6));
        assert_eq!(lag(11, 30, 35), Duration::ZERO);
        for second in 0..MOMENTS as u64 + 100 {
            lag(20 + second, 40, 35);
        }
        assert_eq!(lag(10_000, 40, 35), Duration::MAX);
    }
}
