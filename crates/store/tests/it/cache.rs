//! What is costly to read is read once, here and elsewhere, and never believed when it was forged.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use store::{Cache, Redis};
use testkit::{FakeClock, RedisServer};

/// An instance's cache, and how often its question was asked.
struct Instance {
    cache: Cache,
    asked: AtomicI64,
}

impl Instance {
    fn new(redis: Option<Redis>, key: u8, clock: &FakeClock) -> Self {
        let cache = Cache::new(redis, [key; 32], Arc::new(clock.clone()));
        Self { cache, asked: AtomicI64::new(0) }
    }

    /// How often the question has been asked, as the cache knows it; more than `cheap` is costly.
    async fn read(&self, name: &str, cheap: i64) -> i64 {
        let ask = || async {
            tokio::task::yield_now().await;
            Ok::<_, std::fmt::Error>(self.asked.fetch_add(1, Ordering::SeqCst) + 1)
        };
        self.cache.read(name, |count| *count > cheap, ask).await.unwrap()
    }
}

#[tokio::test]
async fn what_is_cheap_is_always_read_anew_and_what_is_costly_once_for_all() {
    let clock = FakeClock::default();
    let one = Instance::new(None, 1, &clock);
    for expected in 1..=3 {
        assert_eq!(one.read("cheap", 100).await, expected);
    }
    let one = Instance::new(None, 1, &clock);
    assert_eq!(one.read("costly", 0).await, 1);
    let many = (0..100).map(|_| one.read("costly", 0));
    assert_eq!(futures_util::future::join_all(many).await, [2; 100]);
    assert_eq!(one.read("another", 0).await, 3);
}

#[tokio::test]
async fn a_failure_is_told_and_kept_for_nobody() {
    let one = Instance::new(None, 1, &FakeClock::default());
    one.read("costly", 0).await;
    let fail = || async { Err::<i64, _>(std::fmt::Error) };
    assert!(one.cache.read("costly", |_| true, fail).await.is_err());
    assert_eq!(one.read("costly", 0).await, 2);
}

#[tokio::test]
async fn instances_share_and_nobody_forges() {
    let Some(server) = RedisServer::start().await else { return };
    let clock = FakeClock::default();
    let instance = |key| Instance::new(Some(server.redis()), key, &clock);
    let (one, two, other) = (instance(1), instance(1), instance(2));
    for instance in [&one, &two, &other] {
        assert_eq!(instance.read("costly", 0).await, 1);
    }
    assert_eq!(one.read("costly", 0).await, 2);
    // The other instance asks no more; another installation does.
    two.asked.store(70, Ordering::SeqCst);
    assert_eq!(two.read("costly", 0).await, 2);
    assert_eq!(two.cache.figures(), [1, 0, 1, 0]);
    assert_eq!(other.read("costly", 0).await, 2);
    // What was written for one name under another, what is too old, and rubbish.
    let mut hand = server.redis().connection().await.unwrap();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut hand).await.unwrap();
    assert_eq!(keys.len(), 2);
    let values: Vec<Vec<u8>> = redis::cmd("MGET").arg(&keys).query_async(&mut hand).await.unwrap();
    assert!(
        keys.iter().chain(&values).all(|bytes| !bytes.windows(6).any(|part| part == b"costly"))
    );
    let rubbish =
        [values[0][..40].to_vec(), [&values[0][..], b"0"].concat(), b"99".to_vec(), vec![]];
    for (number, forged) in rubbish.iter().enumerate() {
        let three = instance(1);
        three.read("costly", 0).await;
        for key in &keys {
            redis::cmd("SET").arg(key).arg(forged).exec_async(&mut hand).await.unwrap();
        }
        assert_eq!(three.read("costly", 0).await, 2, "{number}");
        assert_eq!(three.cache.figures()[3], 1, "{number}");
    }
    let late = instance(1);
    late.read("costly", 0).await;
    one.read("costly", 0).await;
    clock.advance(Duration::from_secs(6));
    late.asked.store(40, Ordering::SeqCst);
    assert_eq!(late.read("costly", 0).await, 41);
}

#[tokio::test]
async fn a_stalled_or_absent_redis_costs_a_moment_and_no_more() {
    let Some(mut server) = RedisServer::start().await else { return };
    let clock = FakeClock::default();
    let one = Instance::new(Some(server.redis()), 1, &clock);
    one.read("a", 0).await;
    one.read("a", 0).await;
    server.stall();
    for name in ["b", "c", "d", "e"] {
        let begun = Instant::now();
        one.read(name, 0).await;
        one.read(name, 0).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{name}: {:?}", begun.elapsed());
    }
    server.resume();
    server.kill();
    clock.advance(Duration::from_secs(3));
    let begun = Instant::now();
    one.read("f", 0).await;
    one.read("f", 0).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    server.start_again().await;
    clock.advance(Duration::from_secs(3));
    let two = Instance::new(Some(server.redis()), 1, &clock);
    one.read("g", 0).await;
    one.read("g", 0).await;
    two.read("g", 0).await;
    two.asked.store(70, Ordering::SeqCst);
    assert!(two.read("g", 0).await < 70);
}
