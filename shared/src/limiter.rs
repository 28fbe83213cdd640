//! The limiter: buckets in Redis that the whole fleet shares. A call names every limit it falls under; all of them are
//! taken together or none is.

pub mod bucket;
mod keys;
pub mod live;
mod rule;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};

pub use bucket::{Bucket, Mark, Report, State};
pub use keys::Keys;
pub use rule::{Limit, Rule};

/// How long a worker's word about the calls it holds is believed.
pub const HOLD: Duration = Duration::from_secs(30);

/// One limit that a call falls under: whose bucket, how large, how much of it one call costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Which bucket: provider and credential in braces (they stay on one node of a Redis cluster), then what is
    /// limited, for example `{github:1f3a}:requests` or `{slack:77aa}:channel:C024BE91L`.
    pub key: Arc<str>,
    /// How it is limited.
    pub rule: Rule,
    /// What one call takes from it, at least 1 and at most [`Rule::most`].
    pub cost: u32,
    /// Only counted, never in the way.
    pub shadow: bool,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// Calls, at most.
    pub calls: u32,
    /// How far from now the first may lie.
    pub ahead: Duration,
    /// How far after the first the last may lie.
    pub block: Duration,
    /// Only calls that nobody else needs: at least half of every limit stays, as [`bucket::Part::spare`] counts it.
    pub idle: bool,
}

/// What a question to the limiter came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// When it was decided, on the limiter's clock.
    pub now: f64,
    /// Calls that are booked.
    pub calls: u32,
    /// In how long the first of them may start; without any, in how long one could.
    pub start: Duration,
    /// How many of them may start then.
    pub at_start: u32,
    /// After which time each further one may.
    pub step: Duration,
    /// Which of the charges was in the way; `None` when none was.
    pub which: Option<usize>,
    /// One for each charge, for [`Report`].
    pub marks: Vec<Mark>,
    /// One for each charge in shadow: how many of the calls it would have held up.
    pub over: Vec<u32>,
    /// One for each charge: what is left of it and until when no more comes, where that is known.
    pub left: Vec<Option<(f64, Duration)>>,
}

impl Grant {
    /// In how long call number `n` of the grant may start.
    pub fn due(&self, n: u32) -> Duration {
        self.start + self.step * (n + 1).saturating_sub(self.at_start)
    }
}

/// The buckets cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// Redis.
    #[error("limits are unknown: {0}")]
    Redis(#[from] redis::RedisError),
    /// What it holds is none of ours.
    #[error("limits are unknown: {0}")]
    Garbled(String),
}

/// How a bucket stands, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its state; `None` when it was not used within its period.
    pub state: Option<State>,
    /// Now, on the limiter's clock.
    pub now: f64,
    /// Since when Redis knows of calls of this credential; `None` when it knows of none.
    pub born: Option<f64>,
}

static TAKE: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("limiter/take.lua")));

/// A handle on the shared buckets; clones share one connection.
#[derive(Clone)]
pub struct Limiter {
    redis: ConnectionManager,
    server: Arc<Server>,
    /// Who asks, for calls that are held.
    holder: Arc<str>,
    /// Whether a Redis without a past means that nobody has called yet.
    full: bool,
}

/// Which Redis process answers. Another one than before may have lost grants: buckets then count as emptied.
#[derive(Debug, Default)]
struct Server {
    /// Whether the connection has broken since it was asked for its name.
    unknown: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// The server's name.
    name: String,
    /// Credentials whose buckets have heard it from us.
    tags: HashSet<String>,
    /// Credentials with which calls were made that no bucket has heard of.
    anew: HashSet<String>,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limiter")
    }
}

/// What Redis holds under a key.
type Saved = Option<Vec<u8>>;

#[derive(Serialize)]
struct Key(u8, u32, bool, f64, f64, f64, bool, Option<Report>);

#[derive(Deserialize)]
struct Reply(f64, u32, f64, u32, f64, usize, Vec<f64>, Vec<u32>, Vec<f64>);

impl Limiter {
    /// Buckets in this Redis. `holder` names the asker among all workers. With `full`, a Redis that knows nothing of a
    /// credential means that nobody has called with it, and buckets start full instead of empty.
    pub fn new(redis: ConnectionManager, holder: &str, full: bool) -> Self {
        let server = Server {
            unknown: AtomicBool::new(true),
            ..Server::default()
        };
        Self {
            redis,
            server: Arc::new(server),
            holder: holder.into(),
            full,
        }
    }

    /// Takes calls from every bucket of `charges` at once, after taking in what is reported of each, in one round trip.
    /// `held` are the calls of each that this holder has not done yet; what is missing in `reports` and `held` is nothing.
    /// With `ask.calls` 0 it only looks and reports.
    ///
    /// All keys of one question have the same braces.
    pub async fn take(
        &self,
        charges: &[Charge],
        reports: &[Option<Report>],
        held: &[u32],
        ask: Ask,
    ) -> Result<Grant, Unavailable> {
        let Some(tag) = charges.first().map(|charge| tag(&charge.key)) else {
            return Ok(Grant {
                now: 0.0,
                calls: ask.calls,
                start: Duration::ZERO,
                at_start: ask.calls,
                step: Duration::ZERO,
                which: None,
                marks: Vec::new(),
                over: Vec::new(),
                left: Vec::new(),
            });
        };
        let (token, anew) = self.token(tag).await?;
        let keys: Vec<Key> = charges
            .iter()
            .enumerate()
            .map(|(i, charge)| {
                key(
                    charge,
                    reports.get(i).copied().flatten(),
                    held.get(i).copied().unwrap_or(0),
                )
            })
            .collect();
        let request = (
            ask.calls,
            micros(ask.ahead),
            micros(ask.block),
            token.as_deref().unwrap_or_default(),
            anew,
            self.full,
            &*self.holder,
            keys,
            ask.idle,
        );
        let request = rmp_serde::to_vec(&request).map_err(|e| Unavailable::Garbled(e.to_string()))?;
        let mut call = TAKE.prepare_invoke();
        call.key(marker(tag));
        for charge in charges {
            call.key(name(&charge.key));
        }
        call.arg(request);
        let answer: Vec<u8> = match call.invoke_async(&mut self.redis.clone()).await {
            Ok(answer) => answer,
            Err(error) => {
                self.server.unknown.store(true, Ordering::Relaxed);
                return Err(error.into());
            }
        };
        if token.is_some() || anew {
            let mut told = self.told();
            told.tags.insert(tag.to_owned());
            told.anew.remove(tag);
        }
        let Reply(now, calls, start, at_start, step, which, marks, over, lefts) =
            rmp_serde::from_slice(&answer).map_err(|e| Unavailable::Garbled(e.to_string()))?;
        Ok(Grant {
            now,
            calls,
            start: duration(start),
            at_start,
            step: duration(step),
            which: which.checked_sub(1),
            marks: marks.as_chunks().0.iter().map(|mark| mark_of(*mark)).collect(),
            over,
            left: lefts
                .chunks_exact(2)
                .map(|left| (left[0] >= 0.0).then(|| (left[0], duration(left[1]))))
                .collect(),
        })
    }

    /// Says that calls were made while Redis could not be asked: with the next question the buckets of this key's
    /// credential count as emptied.
    pub fn start_anew(&self, key: &str) {
        self.told().anew.insert(tag(key).to_owned());
    }

    /// Tells Redis that this worker lives, and asks how many do that share the buckets of this key's credential.
    pub async fn workers(&self, key: &str) -> Result<u32, Unavailable> {
        let (at, gone) = (unix_seconds(), unix_seconds().saturating_sub(HOLD.as_secs()));
        let list = format!("weir:{}:workers", tag(key));
        let (count,): (u32,) = redis::pipe()
            .zadd(&list, &*self.holder, at)
            .ignore()
            .zrembyscore(&list, "-inf", gone)
            .ignore()
            .expire(&list, HOLD.as_secs() as i64)
            .ignore()
            .zcard(&list)
            .query_async(&mut self.redis.clone())
            .await?;
        Ok(count.max(1))
    }

    /// How a bucket stands.
    pub async fn standing(&self, key: &str) -> Result<Standing, Unavailable> {
        let tag = tag(key);
        let (saved, mark, (seconds, micros)): (Saved, Saved, (f64, f64)) = redis::pipe()
            .get(name(key))
            .get(marker(tag))
            .cmd("TIME")
            .query_async(&mut self.redis.clone())
            .await?;
        let garbled = |e: rmp_serde::decode::Error| Unavailable::Garbled(format!("{key}: {e}"));
        let state = saved.map(|saved| rmp_serde::from_slice(&saved).map_err(garbled));
        let born = mark.map(|mark| rmp_serde::from_slice::<(f64, String)>(&mark).map_err(garbled));
        Ok(Standing {
            state: state.transpose()?,
            now: seconds * 1e6 + micros - bucket::EPOCH,
            born: born.transpose()?.map(|(born, _)| born),
        })
    }

    /// The server's name, if the buckets of this tag have not heard it yet. A process that restarts, and a replica that
    /// is made master, both break connections; only then is it asked again.
    async fn token(&self, tag: &str) -> Result<(Option<String>, bool), Unavailable> {
        if self.server.unknown.load(Ordering::Relaxed) {
            let mut redis = self.redis.clone();
            let (server, replication): (String, String) = redis::pipe()
                .cmd("INFO")
                .arg("server")
                .cmd("INFO")
                .arg("replication")
                .query_async(&mut redis)
                .await?;
            let field = |info: &str, name: &str| {
                let line = info
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.unwrap_or_default().chars().take(10).collect::<String>()
            };
            let name = field(&server, "run_id") + &field(&replication, "master_replid");
            let mut told = self.told();
            if told.name != name {
                told.name = name;
                told.tags.clear();
            }
            self.server.unknown.store(false, Ordering::Relaxed);
        }
        let told = self.told();
        let token = (!told.tags.contains(tag)).then(|| told.name.clone());
        Ok((token, told.anew.contains(tag)))
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.server.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The braces of a key and what is in them.
fn tag(key: &str) -> &str {
    key.find('}').map_or(key, |end| &key[..=end])
}

fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// Where a bucket's state lies.
fn name(key: &str) -> String {
    format!("weir:{key}")
}

/// Where it lies since when Redis knows of a credential.
fn marker(tag: &str) -> String {
    format!("weir:{tag}:born")
}

fn mark_of([push, total, place, line]: [f64; 4]) -> Mark {
    Mark {
        push,
        total,
        place,
        line,
    }
}

/// A time that a script told; what cannot be one is as long as nothing else.
fn duration(micros: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(32 * 86_400);
    let time = Duration::try_from_secs_f64(micros.max(0.0) / 1e6);
    time.map_or(LONGEST, |time| time.min(LONGEST))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn key(charge: &Charge, report: Option<Report>, held: u32) -> Key {
    let cost = charge.cost;
    match Bucket::from(charge.rule) {
        Bucket::Paced {
            interval,
            period,
            slack,
        } => Key(1, cost, charge.shadow, interval, period, slack, false, report),
        Bucket::Window {
            calls,
            period,
            guard,
            aligned,
        } => Key(2, cost, charge.shadow, calls, period, guard, aligned, report),
        Bucket::AtOnce { calls } => Key(
            3,
            cost,
            charge.shadow,
            calls,
            held.into(),
            micros(HOLD),
            false,
            report,
        ),
    }
}
