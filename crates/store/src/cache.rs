//! What is costly to read and may be a little old: kept in memory, and on Redis for other instances.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kernel::{SharedClock, Timestamp};
use moka::future::Cache as Memory;
use redis::aio::MultiplexedConnection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::Redis;

/// What is kept is at most this old.
const AGE: Duration = Duration::from_secs(5);
/// What was costly once is taken to be so for a while.
const COSTLY_FOR: Duration = Duration::from_mins(10);
/// Redis is asked no longer than this, and then left alone for a while.
const PATIENCE: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_secs(2);
/// Memory for all that is kept, in bytes.
const LARGEST: u64 = 32 * 1024 * 1024;
/// What is larger than this is not sent to Redis.
const LARGEST_SHARED: usize = 1024 * 1024;

type Name = [u8; 32];

/// Keeps what is costly to read for five seconds. Nothing about money or rights may be decided by what
/// is in it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    near: Memory<Name, Kept>,
    costly: Memory<Name, ()>,
    far: Option<Far>,
    clock: SharedClock,
    /// Names and seals are made with it: on Redis nobody can read a name or forge a value.
    key: [u8; 32],
    figures: Figures,
}

/// How often something was found, and where.
#[derive(Debug, Default)]
struct Figures {
    asked: AtomicI64,
    near: AtomicI64,
    far: AtomicI64,
    rejected: AtomicI64,
}

/// A value as JSON, and how long it may be kept.
#[derive(Clone, Debug)]
struct Kept {
    json: Arc<[u8]>,
    lasts: Duration,
}

struct Lasting;

impl moka::Expiry<Name, Kept> for Lasting {
    fn expire_after_create(
        &self,
        _: &Name,
        kept: &Kept,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(kept.lasts)
    }
}

impl Cache {
    /// A cache in memory, shared by way of Redis if there is one. The key is the same for all
    /// instances of an installation and known to nobody else.
    pub fn new(redis: Option<Redis>, key: [u8; 32], clock: SharedClock) -> Self {
        let weight =
            |_: &Name, kept: &Kept| u32::try_from(kept.json.len() + 128).unwrap_or(u32::MAX);
        let near = Memory::builder().weigher(weight).max_capacity(LARGEST);
        let near = near.expire_after(Lasting).build();
        let costly = Memory::builder().max_capacity(100_000).time_to_live(COSTLY_FOR).build();
        let far = redis.map(Far::new);
        Self(Arc::new(Inner { near, costly, far, clock, key, figures: Figures::default() }))
    }

    /// What `ask` gives; or, where that was `costly` the last time, what it gave up to five seconds
    /// ago here or at another instance. What is costly is asked for once for all who wait for the same
    /// name; the name says everything that the answer depends on. A failure is kept for nobody.
    pub async fn read<T, E, F>(
        &self,
        name: &str,
        costly: impl Fn(&T) -> bool,
        ask: impl Fn() -> F,
    ) -> Result<T, Arc<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Send + Sync + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let inner = &self.0;
        let name = inner.name(name);
        if inner.costly.contains_key(&name) {
            inner.figures.asked.fetch_add(1, Ordering::Relaxed);
            let found = inner.near.get(&name).await;
            inner.figures.near.fetch_add(found.is_some().into(), Ordering::Relaxed);
            let kept = match found {
                Some(kept) => kept,
                None => inner.near.try_get_with(name, inner.find(&name, &ask)).await?,
            };
            // What another version has written may not fit.
            if let Ok(value) = serde_json::from_slice(&kept.json) {
                return Ok(value);
            }
        }
        let value = ask().await.map_err(Arc::new)?;
        if costly(&value) {
            inner.costly.insert(name, ()).await;
        }
        Ok(value)
    }

    /// How often something costly was wanted, found here, found on Redis, and found there but not
    /// written by an instance: for figures.
    pub fn figures(&self) -> [i64; 4] {
        let Figures { asked, near, far, rejected } = &self.0.figures;
        [asked, near, far, rejected].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Inner {
    fn name(&self, name: &str) -> Name {
        *blake3::keyed_hash(&self.key, name.as_bytes()).as_bytes()
    }

    /// From Redis, or anew.
    async fn find<T: Serialize, E, F: Future<Output = Result<T, E>>>(
        &self,
        name: &Name,
        ask: impl Fn() -> F,
    ) -> Result<Kept, E> {
        let now = self.clock.now();
        if let Some(far) = &self.far
            && let Some(sealed) = far.get(name, now).await
        {
            let opened = self.open(name, &sealed, now);
            let counter = if opened.is_some() { &self.figures.far } else { &self.figures.rejected };
            counter.fetch_add(1, Ordering::Relaxed);
            if let Some(kept) = opened {
                return Ok(kept);
            }
        }
        // It is as old as its question.
        let until = self.clock.now().after(AGE);
        let value = ask().await?;
        let json = serde_json::to_vec(&value).unwrap_or_default();
        if let Some(far) = self.far.as_ref().filter(|_| json.len() <= LARGEST_SHARED) {
            far.put(name, self.seal(name, until, &json), self.clock.now()).await;
        }
        Ok(Kept { json: json.into(), lasts: until.since(self.clock.now()) })
    }

    fn seal(&self, name: &Name, until: Timestamp, json: &[u8]) -> Vec<u8> {
        let time = until.micros().to_le_bytes();
        let mac = self.mac(name, time, json);
        [mac.as_bytes().as_slice(), &time, json].concat()
    }

    /// `None` for what is too old, and for what no instance has written under this name.
    fn open(&self, name: &Name, sealed: &[u8], now: Timestamp) -> Option<Kept> {
        let (mac, rest) = sealed.split_first_chunk::<32>()?;
        let (time, json) = rest.split_first_chunk::<8>()?;
        let until = Timestamp::from_micros(i64::from_le_bytes(*time));
        let lasts = until.since(now);
        let fresh = until > now && lasts <= AGE;
        // Compared in constant time.
        (self.mac(name, *time, json) == *mac && fresh).then(|| Kept { json: json.into(), lasts })
    }

    fn mac(&self, name: &Name, time: [u8; 8], json: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // Longer than any name that is hashed with the same key can end like.
        hasher.update(b"ledgerline cached value\0").update(name).update(&time).update(json);
        hasher.finalize()
    }
}

/// The part on Redis.
#[derive(Debug)]
struct Far {
    redis: Redis,
    connection: Mutex<Option<MultiplexedConnection>>,
    /// Until then Redis is left alone.
    rests_until: AtomicI64,
}

impl Far {
    fn new(redis: Redis) -> Self {
        Self { redis, connection: Mutex::default(), rests_until: AtomicI64::new(0) }
    }

    async fn get(&self, name: &Name, now: Timestamp) -> Option<Vec<u8>> {
        let command = redis::Cmd::get(self.key(name));
        self.run::<Option<Vec<u8>>>(command, now).await.flatten()
    }

    async fn put(&self, name: &Name, sealed: Vec<u8>, now: Timestamp) {
        self.run::<()>(redis::Cmd::set_ex(self.key(name), sealed, AGE.as_secs()), now).await;
    }

    fn key(&self, name: &Name) -> Vec<u8> {
        [self.redis.prefix().as_bytes(), b"cache:", name].concat()
    }

    /// `None` when Redis does not answer soon: then it is left alone for a while.
    async fn run<T: redis::FromRedisValue>(
        &self,
        command: redis::Cmd,
        now: Timestamp,
    ) -> Option<T> {
        if now.micros() < self.rests_until.load(Ordering::Relaxed) {
            return None;
        }
        let asking = async {
            let mut connection = self.connected().await?;
            command.query_async(&mut connection).await
        };
        let failure = match timeout(PATIENCE, asking).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "no answer in time".to_owned(),
        };
        tracing::debug!(failure, "Redis is left alone for a while");
        *self.connection.lock().await = None;
        self.rests_until.store(now.after(REST).micros(), Ordering::Relaxed);
        None
    }

    async fn connected(&self) -> redis::RedisResult<MultiplexedConnection> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        Ok(connection.insert(self.redis.connection().await?).clone())
    }
}
