//! Keeps a service's breakers in step with those of the other workers: writes what changed here, reads what changed
//! there, tells and hears counts. Without NATS each worker goes on by itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::{EntryError, Operation, Store, UpdateError, UpdateErrorKind};
use async_nats::jetstream::{self};
use async_nats::{Client, Message, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use shared::breaker::{Record, Tally, Word};
use shared::config::fleet::Streams;
use shared::subject::Service;
use shared::topology::{self, TopologyError};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::breaker::{Breaker, Claim, Found};
use super::upstreams::Shared;

/// How often the bucket is looked at, should a word have been lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long NATS may take to answer before a worker goes on by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after something went wrong.
const PAUSE: Duration = Duration::from_secs(1);
/// Most bytes of a word.
const MAX_WORD: usize = 4096;
/// How long the last words may take at the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How to reach the other workers of a service.
#[derive(Debug)]
pub struct Fleet {
    client: Client,
    js: jetstream::Context,
    streams: Streams,
    service: Service,
    /// Tells this process's counts from others'.
    me: String,
    bucket: Mutex<Option<Store>>,
    wake: Notify,
    known: watch::Sender<bool>,
}

/// Breakers cannot be brought in step. It is tried again.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Bucket(#[from] TopologyError),
    #[error("reading a breaker: {0}")]
    Entry(#[from] EntryError),
    #[error("writing a breaker: {0}")]
    Update(#[from] UpdateError),
    #[error("hearing the others: {0}")]
    Subscribe(#[from] SubscribeError),
    #[error("NATS does not answer")]
    Late,
    #[error("the subscription has ended")]
    Ended,
}

/// How far a claim goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Claimed {
    /// For the whole fleet, under this revision.
    Stands(u64),
    /// For this worker, while the bucket is away.
    Alone,
}

impl Claimed {
    pub(super) fn stands(self) -> Option<u64> {
        match self {
            Self::Stands(revision) => Some(revision),
            Self::Alone => None,
        }
    }
}

impl Fleet {
    /// The workers of `service`.
    pub fn new(client: &Client, js: &jetstream::Context, streams: &Streams, service: &Service) -> Self {
        Self {
            client: client.clone(),
            js: js.clone(),
            streams: streams.clone(),
            service: service.clone(),
            me: format!("{:016x}", rand::random::<u64>()),
            bucket: Mutex::default(),
            wake: Notify::new(),
            known: watch::Sender::new(false),
        }
    }

    pub(super) async fn known(&self) {
        let _ = self.known.subscribe().wait_for(|known| *known).await;
    }

    /// There is something to write or to tell.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Claims a probe; `None` when another has been faster.
    pub(super) async fn claim(&self, key: &str, claim: &Claim) -> Option<Claimed> {
        let bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(bucket) = bucket else {
            return Some(Claimed::Alone);
        };
        match write(&bucket, key, &claim.record, claim.revision).await {
            Ok(revision) => Some(Claimed::Stands(revision)),
            Err(StepError::Update(error)) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                // What is there now will be read.
                self.say(&Word::Changed { key: key.to_owned() }).await;
                None
            }
            Err(error) => {
                tracing::debug!(service = %self.service, %error, "a probe is claimed for this worker alone");
                Some(Claimed::Alone)
            }
        }
    }

    async fn say(&self, word: &Word) {
        let json = serde_json::to_vec(word).unwrap_or_default();
        // Lost words are made up for by looks into the bucket.
        let _ = timeout(PATIENCE, self.client.publish(self.service.breaker(), json.into())).await;
    }
}

/// Writes a record over a revision; gives its own.
async fn write(bucket: &Store, key: &str, record: &Record, revision: u64) -> Result<u64, StepError> {
    let bytes = Bytes::from(record.bytes());
    let written = timeout(PATIENCE, bucket.update(key, bytes, revision)).await;
    Ok(written.map_err(|_| StepError::Late)??)
}

/// Keeps in step until `end`, and has a last word then.
pub(super) async fn keep_in_step(shared: Arc<Shared>, end: CancellationToken) {
    let Some(fleet) = &shared.fleet else { return };
    let mut told = false;
    while let Some(result) = end.run_until_cancelled(in_step(&shared, fleet, &mut told)).await {
        if let Err(error) = result
            && !std::mem::replace(&mut told, true)
        {
            let service = &fleet.service;
            tracing::warn!(%service, %error, "breakers are not in step with the other workers; each goes on by itself");
        }
        if end.run_until_cancelled(sleep(PAUSE)).await.is_none() {
            break;
        }
        decide(&shared);
    }
    let bucket = fleet
        .bucket
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if let Some(bucket) = bucket {
        let _ = timeout(LAST_WORDS, save(&shared, fleet, &bucket)).await;
    }
}

/// Keeps in step until something goes wrong. `told` is that it went wrong before, in the log.
async fn in_step(shared: &Shared, fleet: &Fleet, told: &mut bool) -> Result<(), StepError> {
    let mut words = fleet.client.subscribe(fleet.service.breaker()).await?;
    let bucket = topology::breakers_bucket(&fleet.js, &fleet.streams).await?;
    *fleet.bucket.lock().unwrap_or_else(PoisonError::into_inner) = Some(bucket.clone());
    let mut next_look = tokio::time::Instant::now();
    loop {
        if next_look <= tokio::time::Instant::now() {
            for line in &shared.lines {
                look(shared, &bucket, &line.upstream.key).await?;
            }
            next_look = tokio::time::Instant::now() + LOOK_EVERY;
            fleet.known.send_replace(true);
        }
        save(shared, fleet, &bucket).await?;
        tell(shared, fleet).await;
        if std::mem::take(told) {
            tracing::info!(service = %fleet.service, "breakers are in step with the other workers again");
        }
        let next = breakers(shared).filter_map(|(_, breaker)| breaker.next()).min();
        let next = next.map_or(next_look, |next| next_look.min(next.into()));
        tokio::select! {
            word = words.next() => hear(shared, fleet, &bucket, word.ok_or(StepError::Ended)?).await?,
            () = fleet.wake.notified() => {}
            () = sleep_until(next) => {}
        }
        while let Some(word) = at_hand(&mut words) {
            hear(shared, fleet, &bucket, word).await?;
        }
        decide(shared);
    }
}

fn at_hand(words: &mut Subscriber) -> Option<Message> {
    futures_util::FutureExt::now_or_never(words.next()).flatten()
}

/// Decides what was waited for.
fn decide(shared: &Shared) {
    for (_, breaker) in breakers(shared) {
        if breaker.settle(Instant::now()) {
            shared.changed();
        }
    }
}

fn breakers(shared: &Shared) -> impl Iterator<Item = (&str, &Breaker)> {
    let lines = shared.lines.iter();
    lines.filter_map(|line| Some((line.upstream.key.as_str(), line.breaker.as_deref()?)))
}

/// Reads what the bucket has of one upstream.
async fn look(shared: &Shared, bucket: &Store, key: &str) -> Result<(), StepError> {
    let Some((_, breaker)) = breakers(shared).find(|(known, _)| *known == key) else {
        return Ok(());
    };
    let began = Instant::now();
    let entry = timeout(PATIENCE, bucket.entry(key))
        .await
        .map_err(|_| StepError::Late)??;
    let found = entry.map(|entry| Found {
        revision: entry.revision,
        record: (entry.operation == Operation::Put).then(|| Record::read(&entry.value)),
    });
    if breaker.take_in(found, began) {
        shared.changed();
    }
    Ok(())
}

/// Writes what changed here; where another was faster, its word holds.
async fn save(shared: &Shared, fleet: &Fleet, bucket: &Store) -> Result<(), StepError> {
    for (key, breaker) in breakers(shared) {
        while let Some((record, revision, version)) = breaker.unsaved() {
            match write(bucket, key, &record, revision).await {
                Ok(revision) => {
                    breaker.saved(version, revision);
                    fleet.say(&Word::Changed { key: key.to_owned() }).await;
                }
                Err(StepError::Update(error)) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                    look(shared, bucket, key).await?;
                    if breaker.unsaved().is_some_and(|(_, now, _)| now == revision) {
                        // The look is not up to date yet.
                        return Err(StepError::Update(error));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Tells the others how calls fare, where any fail.
async fn tell(shared: &Shared, fleet: &Fleet) {
    for (key, breaker) in breakers(shared) {
        if let Some((counts, ask)) = breaker.to_tell(Instant::now()) {
            let tally = Tally {
                key: key.to_owned(),
                worker: fleet.me.clone(),
                counts,
                ask,
            };
            fleet.say(&Word::Counts(tally)).await;
        }
    }
}

/// Takes in a word of another worker; anything else on the subject is nothing.
async fn hear(shared: &Shared, fleet: &Fleet, bucket: &Store, word: Message) -> Result<(), StepError> {
    if word.payload.len() > MAX_WORD {
        return Ok(());
    }
    match serde_json::from_slice(&word.payload) {
        Ok(Word::Counts(tally)) if tally.worker != fleet.me && tally.worker.len() <= 64 => {
            let known = breakers(shared).find(|(key, _)| *key == tally.key);
            if let Some((_, breaker)) = known {
                breaker.hear(&tally, Instant::now());
            }
        }
        Ok(Word::Changed { key }) => look(shared, bucket, &key).await?,
        Ok(Word::Counts(_)) | Err(_) => {}
    }
    Ok(())
}
