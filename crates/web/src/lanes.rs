//! Threads that serve connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// Threads that serve connections, each with a runtime of its own.
///
/// A connection stays on its lane, and so do the tasks it starts: what wakes one of them wakes that
/// thread and no other. On a runtime shared by all threads a wake-up takes two or three, which at a
/// low rate is most of what a call costs (docs/adr/0006).
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Lane>,
    end: CancellationToken,
}

#[derive(Debug)]
struct Lane {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// Counts a connection as long as it lives.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Lanes {
    /// One for each processor.
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let end = CancellationToken::new();
        let lanes = (0..count).map(|_| Lane::start(end.clone())).collect::<io::Result<_>>()?;
        Ok(Self { lanes, end })
    }

    /// The lane with the fewest connections, and a place on it.
    pub(crate) fn least(&self) -> Option<(&Handle, Place)> {
        let lane = self.lanes.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed))?;
        lane.connections.fetch_add(1, Ordering::Relaxed);
        Some((&lane.handle, Place(Arc::clone(&lane.connections))))
    }
}

impl Lane {
    fn start(end: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let work = move || runtime.block_on(end.cancelled());
        let thread = std::thread::Builder::new().name("lane".to_owned()).spawn(work)?;
        Ok(Self { handle, connections: Arc::default(), thread: Some(thread) })
    }
}

impl Drop for Lanes {
    /// Ends the threads; what still runs on them is dropped.
    fn drop(&mut self) {
        self.end.cancel();
        for thread in self.lanes.iter_mut().filter_map(|lane| lane.thread.take()) {
            drop(thread.join());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
