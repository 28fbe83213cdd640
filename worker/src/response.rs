//! What a service's events have read before. It is looked at before an upstream is chosen and a turn is taken: an answer
//! that will do ends the event without a call. Of those who read the same at once one asks, and the others look again.
//!
//! What is known and too old is asked for by its tag: [`Reading::knows`] goes to the handler with the turn.

mod ahead;
mod flights;
mod levels;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use shared::access::{self, Access, Asked, Digest, Found, Notes};
use shared::cache::{
    BadKey, Fetched, Fresh, Key, Known, LONGEST, Levels, Looked, MAX_NAME, Options, Place, Space, Stamp,
    Wants, What,
};
use shared::event::{Data, Event, EventId, Tenant};
use shared::failure::Failure;
use shared::subject::Service;
use shared::telemetry::propagation::millis;

use crate::config::ServiceConfig;
use crate::handler::{Completion, Read, UNCHANGED};
use crate::pool::Pool;
pub use ahead::{Ahead, ahead};
use flights::{Flights, Lead};
pub use levels::{heard, levels};

/// The code of an event that is done by what is kept.
pub const CACHED: &str = "cached";
/// Codes of answers that are not the whole answer: GitHub's statistics are a 202 until they are computed.
const UNFINISHED: [&str; 2] = ["http_202", "http_206"];
/// Longest time of a copy in this process's memory; what is invalid is not used, however long it lies there.
const IN_MEMORY: Duration = Duration::from_secs(3600);
/// Invalidations that are said at once.
const SAID_AT_ONCE: usize = 32;

/// What is kept of an answer.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The event's result as JSON text, which takes less room than a tree.
    result: Option<String>,
}

impl Kept {
    fn of(done: &Completion) -> Self {
        let result = done.result.as_ref().map(Value::to_string);
        Self { result }
    }

    /// The completion of an event by it; `None` where it is not what [`Self::of`] has written.
    fn completion(&self, code: &'static str) -> Option<Completion> {
        let result = self.result.as_deref().map(serde_json::from_str::<Value>);
        let result = result.transpose().ok()?;
        Some(Completion {
            result,
            ..Completion::new(code)
        })
    }
}

/// The answers of one service.
#[derive(Debug)]
pub struct Responses(Option<Reads>);

#[derive(Debug)]
struct Reads {
    service: Service,
    space: Space<Kept>,
    levels: Levels,
    /// Who asks where: another credential may see something else.
    asker: String,
    /// How old an answer may be, unless an event says so.
    fresh: Duration,
    /// Longest wait for somebody who asks the same.
    longest: Duration,
    flights: Flights,
    notes: Notes,
}

impl Responses {
    /// Those of a service, in the worker's cache; none where the handler does not tell what events read.
    ///
    /// # Errors
    /// The service's name is none of a space.
    pub fn new(levels: Option<&Levels>, notes: &Notes, config: &ServiceConfig) -> Result<Self, BadKey> {
        let Some(levels) = levels.filter(|_| config.kind.caches) else {
            return Ok(Self(None));
        };
        let options = Options {
            // How old it may be is for each event to say.
            fresh: LONGEST,
            memory: IN_MEMORY,
            redis: LONGEST,
            // What is asked for each time anyway is not worth a row.
            postgres: if config.cache.is_zero() {
                Duration::ZERO
            } else {
                LONGEST
            },
            beta: 0.0,
            ..Options::default()
        };
        Ok(Self(Some(Reads {
            service: config.service.clone(),
            space: levels.space(config.service.as_str(), options)?,
            levels: levels.clone(),
            asker: asker(config),
            fresh: config.cache,
            longest: config.timeout,
            flights: Flights::default(),
            notes: notes.clone(),
        })))
    }

    /// Now, for what is asked now; `None` where nothing is kept.
    pub fn moment(&self) -> Option<Moment> {
        let stamp = self.0.as_ref()?.space.stamp();
        let at = Instant::now();
        Some(Moment { stamp, at })
    }

    /// Makes invalid what a completion says has changed, if it says so.
    async fn changed(&self, done: &Completion) -> Result<(), Failure> {
        let Some(reads) = self.0.as_ref().filter(|_| !done.changed.is_empty()) else {
            return Ok(());
        };
        let said = |tag: &String| {
            let what = What::tag(tag.as_str());
            async move {
                let what = what.map_err(|error| Failure::permanent("cache", error))?;
                let said = reads.levels.invalidate(&what).await;
                said.map_err(|error| Failure::transient("cache", error))
            }
        };
        let said: Vec<_> = done.changed.iter().map(said).collect();
        stream::iter(said)
            .buffer_unordered(SAID_AT_ONCE)
            .try_collect()
            .await
    }
}

/// What is there for an event.
#[derive(Debug)]
pub enum Look<'p> {
    /// Its answer.
    Answered(Completion),
    /// It is to make its call; what it reads by that, if it reads and that is kept.
    Call(Option<Box<Reading<'p>>>),
}

/// When something was asked.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    stamp: Stamp,
    at: Instant,
}

/// A read that is to be made.
#[derive(Debug)]
pub struct Reading<'p> {
    reads: &'p Reads,
    read: Read,
    key: Key,
    wants: Wants,
    known: Option<Known<Kept>>,
    tenant: Option<Tenant>,
    actor: Option<u64>,
    at: SystemTime,
    asked: Option<Moment>,
    /// Nobody else asks the same meanwhile.
    lead: Option<Lead<'p>>,
}

/// Looks for the answer to what an event reads that came at `came_ms`, in milliseconds since the Unix epoch. Where another
/// event asks the same, it waits until that has ended, after it has let go what it needs only for a call. One that has
/// failed is nobody else's failure: the next asks.
pub async fn look<'p>(event: &Event, came_ms: u64, let_go: impl FnOnce(), pool: &'p Pool) -> Look<'p> {
    let came = UNIX_EPOCH + Duration::from_millis(came_ms);
    let Some(mut reading) = Reading::of(event, came, pool) else {
        return Look::Call(None);
    };
    let reads = reading.reads;
    // Where what others ask now will not do, or cannot be kept, nobody waits for it.
    let shared = reading.wants.can_be_met() && reads.levels.is_heard();
    let line = match shared.then(|| reads.flights.enter(reading.key.digest())) {
        Some(Ok(lead)) => {
            reading.lead = Some(lead);
            None
        }
        Some(Err(line)) => Some(line),
        None => None,
    };
    let mut done = reading.find().await;
    if let (None, Some(line)) = (&done, line) {
        let_go();
        reading.lead = line.lead(reads.longest).await;
        done = reading.find().await;
    }
    match done {
        Some(done) => Look::Answered(done),
        None => Look::Call(Some(Box::new(reading))),
    }
}

/// Keeps what an event has read, and says what has changed by it; gives what the event is done with.
///
/// # Errors
/// That of the call; or nobody knows whether it was said.
pub async fn keep(
    reading: Option<Box<Reading<'_>>>,
    called: Result<Option<Completion>, Failure>,
    pool: &Pool,
) -> Result<Option<Completion>, Failure> {
    let took = reading.as_ref().and_then(|reading| reading.took());
    match (called, reading) {
        (Ok(Some(done)), None) => pool.responses.changed(&done).await.map(|()| Some(done)),
        (Ok(Some(done)), Some(reading)) => {
            reading.note(Found::Nowhere, took);
            reading.keep(done).await.map(Some)
        }
        (Err(failure), Some(reading)) => {
            // Whoever waits for a limit looks again.
            if took.is_some() {
                reading.note(Found::Nowhere, None);
            }
            Err(failure)
        }
        (called, _) => called,
    }
}

impl<'p> Reading<'p> {
    fn of(event: &Event, came: SystemTime, pool: &'p Pool) -> Option<Self> {
        let reads = pool.responses.0.as_ref()?;
        let read = pool.handler.read(event)?;
        let key = reads.key(event.tenant.as_ref(), &read.name).ok()?;
        let tenant = event.tenant.as_ref().map_or("", Tenant::as_str);
        let who = event.key.as_ref().map_or("", |key| key.as_str());
        Some(Self {
            wants: Wants {
                max_age: Some(read.max_age.unwrap_or(reads.fresh)),
                not_before: read.is_news.then_some(came),
            },
            reads,
            read,
            key,
            known: None,
            tenant: event.tenant.clone(),
            actor: (!tenant.is_empty() || !who.is_empty()).then(|| access::id_of(&[tenant, who])),
            at: SystemTime::now(),
            asked: None,
            lead: None,
        })
    }

    /// The answer that is kept, if it will do.
    async fn find(&mut self) -> Option<Completion> {
        let (done, place) = self.seek().await?;
        self.note(found(place), None);
        Some(done)
    }

    /// The same, for who is not to be noted.
    async fn seek(&mut self) -> Option<(Completion, Place)> {
        match self.reads.space.look(&self.key, self.wants).await {
            Looked::Usable(got) => Some((got.value.as_ref()?.completion(CACHED)?, got.from)),
            Looked::Known(known) => {
                self.known = Some(known);
                None
            }
            Looked::Nothing => None,
        }
    }

    /// The tag of what is known, for the event's turn: what may stand in a header.
    pub fn knows(&self, event: &Event) -> Option<(EventId, String)> {
        let etag = self.known.as_ref()?.etag()?;
        let fits = http::HeaderValue::from_str(etag).is_ok();
        fits.then(|| (event.id.clone(), etag.to_owned()))
    }

    /// It was asked at this time.
    pub fn asked(&mut self, moment: Option<Moment>) {
        self.asked = moment;
    }

    fn took(&self) -> Option<Duration> {
        self.asked.map(|moment| moment.at.elapsed())
    }

    async fn keep(self, done: Completion) -> Result<Completion, Failure> {
        // What was done without a call is not an answer, and accepted or a part is none yet.
        let Some(Moment { stamp, .. }) = self.asked.filter(|_| !UNFINISHED.contains(&&*done.code)) else {
            return Ok(done);
        };
        let space = &self.reads.space;
        if done.code == UNCHANGED {
            let known = self.known.as_ref();
            let got = space
                .put(&self.key, stamp, Fetched::Unchanged(None), known)
                .await?;
            let done = got.value.and_then(|kept| kept.completion(UNCHANGED));
            return done.ok_or_else(|| Failure::transient("cache", "what is kept of an answer is none"));
        }
        let fresh = Fresh {
            value: Kept::of(&done),
            etag: done.etag.clone(),
            tags: self.read.tags.clone(),
            ttl: None,
        };
        space.put(&self.key, stamp, Fetched::Fresh(fresh), None).await?;
        Ok(done)
    }

    fn note(&self, found: Found, took: Option<Duration>) {
        let reads = self.reads;
        let digest = Digest(self.key.digest());
        let repository = self.read.repository.as_deref();
        let access = Access {
            at_ms: millis(self.at),
            key: digest.id(),
            actor: self.actor,
            repository: repository.map(|named| access::id_of(&[named])),
            found,
            fetch_ms: took.map(|took| u32::try_from(took.as_millis()).unwrap_or(u32::MAX)),
        };
        let what = || {
            let (kind, data) = &self.read.again;
            let asked = Asked {
                kind: (*kind).to_owned(),
                data: Data::json(data.to_string()),
            };
            access::What::new(self.key.as_str(), self.tenant.clone(), asked)
        };
        reads.notes.note(&reads.service, digest, access, what);
    }
}

impl Reads {
    fn key(&self, tenant: Option<&Tenant>, name: &str) -> Result<Key, BadKey> {
        let mut named = format!("{} {name}", self.asker);
        if named.len() > MAX_NAME {
            named = format!("{} sha256:{}", self.asker, hex::encode(Sha256::digest(name)));
        }
        self.space.key(tenant, &named)
    }
}

/// The credential and where its calls go, as the first 8 hex digits of a SHA-256.
fn asker(config: &ServiceConfig) -> String {
    let mut urls = config.urls.clone();
    urls.sort_unstable();
    let mut hasher = Sha256::new();
    hasher.update(crate::handler::bucket_tag(config));
    for url in urls {
        hasher.update([0]);
        hasher.update(url);
    }
    hex::encode(&hasher.finalize()[..4])
}

fn found(place: Place) -> Found {
    match place {
        Place::Memory => Found::Memory,
        Place::Redis => Found::Redis,
        Place::Postgres => Found::Postgres,
        Place::Flight | Place::Fetched => Found::Nowhere,
    }
}
