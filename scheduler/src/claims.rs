//! Bodies of large events that no message refers to any more: those of an ingest that died before it published, of a
//! worker that died before it removed them, of letters that grew too old. Found and removed, and never one that a
//! message refers to.
//!
//! **Why that holds.** A reference always lies in one of three places and is copied before it is taken away: among the
//! dead letters, among the retries, in the service's stream. It gets from the first two into the third by itself or by a
//! replay; back again only by a worker or the backstop, which leave a mark first ([`shared::claim::moving`]). The places are
//! read in that order, each to the end that it has by then. So a reference that was seen nowhere has gone back while
//! they were read, and its mark, which is kept for a day, is there: bodies with a mark are left alone. A reference that is
//! not published yet belongs to a body younger than the grace, and those are not looked at.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use async_nats::jetstream;
use futures_util::TryStreamExt;
use shared::claim::{self, Name, Object, RemoveError};
use shared::stored::{self, Stored, Unread};
use shared::subject::{
    BODIES_CHUNKS, BODIES_META, BODIES_STREAM, CLAIMS_STREAM, DEAD_STREAM, RETRY_STREAM, Service, headers,
};
use tokio_util::sync::CancellationToken;

use crate::leader::Leadership;
use crate::metrics::Metrics;

/// Most bodies that one look takes in, which bounds its memory to some 30 MB. A body is larger than a message can be:
/// so many are a hundred gigabytes.
const MOST_BODIES: usize = 100_000;
/// Most messages of one stream that one look reads, one request each: some minutes. While more wait, the bodies of that
/// service stay, since the whole stream would have to be read to know.
const MOST_MESSAGES: usize = 1_000_000;

/// Why a look did not come to its end. The next one begins anew.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A stream could not be read.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// What a stream holds could not be listed.
    #[error("listing the bucket of bodies: {0}")]
    List(String),
    /// Something could not be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// This replica does not lead any more.
    #[error("another replica leads")]
    Stepped,
    /// More messages than one look reads.
    #[error("{stream} holds more than {MOST_MESSAGES} messages: bodies stay until it holds fewer")]
    TooMany {
        /// Where.
        stream: String,
    },
}

/// Where a reference was seen last: a stream and the message's sequence. Asked there first, so that a body that lies with
/// a dead letter for weeks costs one request a look.
pub type Places = HashMap<Name, (String, u64)>;

/// The job.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Whom to ask.
    pub js: jetstream::Context,
    /// Whether to do it.
    pub leadership: Leadership,
    /// What is counted.
    pub metrics: Metrics,
    /// Age from which bodies are looked at, and pause between two looks.
    pub grace: Duration,
}

/// A body that may be nobody's.
#[derive(Debug)]
struct Candidate {
    sequence: u64,
    nuid: String,
}

impl Collector {
    /// Looks while this replica leads, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), CollectError> {
        let mut places = Places::new();
        let looks = async {
            loop {
                self.leadership.elected().await;
                match self.collect(&mut places).await {
                    Ok(0) => {}
                    Ok(removed) => tracing::info!(removed, "removed bodies that nobody referred to"),
                    Err(error) => {
                        tracing::warn!(%error, "the bodies of large events were not looked through");
                    }
                }
                tokio::time::sleep(self.grace).await;
            }
        };
        shutdown.run_until_cancelled(looks).await;
        Ok(())
    }

    /// One look. Tells how many bodies it removed.
    pub async fn collect(&self, places: &mut Places) -> Result<usize, CollectError> {
        // Pieces before objects: a body whose pieces are seen and whose object is not had none a moment ago.
        let Some(pieces) = self.pieces().await? else {
            return Ok(0);
        };
        let mut known = HashSet::new();
        let mut candidates: HashMap<Service, HashMap<Name, Candidate>> = HashMap::new();
        let (mut from, mut count) = (1, 0);
        while let Some(found) = self
            .next(BODIES_STREAM, &format!("{BODIES_META}.>"), from)
            .await?
        {
            from = found.sequence + 1;
            count += 1;
            if count > MOST_BODIES {
                break;
            }
            // What is no object is nobody's business here; its pieces, if it has any, are found as such.
            let Ok(Some(object)) = Object::of(&found) else {
                continue;
            };
            known.insert(object.nuid().to_owned());
            if let (true, Some((name, service))) = (self.is_old(&found), Name::parse(&object.name)) {
                let candidate = Candidate {
                    sequence: object.sequence,
                    nuid: object.nuid().to_owned(),
                };
                candidates.entry(service).or_default().insert(name, candidate);
            }
        }
        let mut removed = 0;
        if count <= MOST_BODIES {
            for nuid in pieces.iter().filter(|nuid| !known.contains(*nuid)) {
                removed += usize::from(self.drop_pieces(nuid).await?);
            }
        }
        places.retain(|name, _| candidates.values().any(|of| of.contains_key(name)));
        let mut trouble = None;
        for (service, mut candidates) in candidates {
            let looked = self.unreferenced(&service, &mut candidates, places).await;
            match looked {
                Ok(()) => {
                    for (name, candidate) in candidates {
                        removed += usize::from(self.remove(&name, &candidate).await?);
                    }
                }
                // The others' bodies need not stay because of one stream.
                Err(error) => trouble = Some(error),
            }
        }
        trouble.map_or(Ok(removed), Err)
    }

    /// The ids of all pieces in the bucket; `None` where there is no bucket yet.
    async fn pieces(&self) -> Result<Option<Vec<String>>, CollectError> {
        let failed = |e: &dyn std::fmt::Display| CollectError::List(e.to_string());
        match stored::last(&self.js, BODIES_STREAM, BODIES_META).await {
            Err(Unread::NoStream(_)) => return Ok(None),
            other => drop(other?),
        }
        let stream = self
            .js
            .get_stream_no_info(BODIES_STREAM)
            .await
            .map_err(|e| failed(&e))?;
        let mut subjects = stream
            .info_with_subjects(format!("{BODIES_CHUNKS}.>"))
            .await
            .map_err(|e| failed(&e))?;
        let mut pieces = Vec::new();
        while let Some((subject, _)) = subjects.try_next().await.map_err(|e| failed(&e))? {
            let nuid = subject
                .strip_prefix(BODIES_CHUNKS)
                .and_then(|rest| rest.strip_prefix('.'));
            pieces.extend(nuid.map(str::to_owned));
            if pieces.len() >= MOST_BODIES {
                break;
            }
        }
        Ok(Some(pieces))
    }

    /// Removes pieces that belong to no object, unless somebody may still be putting them.
    async fn drop_pieces(&self, nuid: &str) -> Result<bool, CollectError> {
        let newest = stored::last(&self.js, BODIES_STREAM, &format!("{BODIES_CHUNKS}.{nuid}")).await?;
        if !newest.is_some_and(|newest| self.is_old(&newest)) {
            return Ok(false);
        }
        self.lead()?;
        claim::remove_pieces(&self.js, nuid).await?;
        self.metrics.collected.inc();
        tracing::info!(nuid, "removed the pieces of a body that was never whole");
        Ok(true)
    }

    /// Leaves those that no message of the service refers to.
    async fn unreferenced(
        &self,
        service: &Service,
        candidates: &mut HashMap<Name, Candidate>,
        places: &mut Places,
    ) -> Result<(), CollectError> {
        let known = candidates
            .keys()
            .filter_map(|name| Some((name.clone(), places.get(name)?.clone())));
        for (name, (stream, sequence)) in known.collect::<Vec<_>>() {
            let there = match stored::at(&self.js, &stream, sequence).await {
                Err(Unread::NoStream(_)) => None,
                other => other?,
            };
            if there.is_some_and(|message| message.header(headers::CLAIM) == Some(name.as_str())) {
                candidates.remove(&name);
            } else {
                places.remove(&name);
            }
        }
        let work = service.stream();
        let retries = format!("retry.*.{service}.>");
        for (stream, subjects) in [
            (DEAD_STREAM, service.dead()),
            (RETRY_STREAM, retries),
            (work.as_str(), ">".to_owned()),
        ] {
            self.seek(stream, &subjects, candidates, places).await?;
        }
        Ok(())
    }

    /// Reads a stream to its end and strikes out what its messages refer to. What enters the service's stream meanwhile
    /// need not be read: it was seen where it came from, or left a mark there.
    async fn seek(
        &self,
        stream: &str,
        subjects: &str,
        candidates: &mut HashMap<Name, Candidate>,
        places: &mut Places,
    ) -> Result<(), CollectError> {
        let (mut from, mut count) = (1, 0);
        let end = match stored::last(&self.js, stream, ">").await {
            Ok(Some(last)) if stream != RETRY_STREAM => last.sequence,
            // Within this stream a message moves on to a later place when it is due: read until nothing is left.
            Ok(Some(_)) => u64::MAX,
            Ok(None) | Err(Unread::NoStream(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        while !candidates.is_empty() {
            let Some(message) = self.next(stream, subjects, from).await? else {
                break;
            };
            if message.sequence > end {
                break;
            }
            from = message.sequence + 1;
            count += 1;
            if count > MOST_MESSAGES {
                return Err(CollectError::TooMany {
                    stream: stream.to_owned(),
                });
            }
            if let Some((name, _)) = message.header(headers::CLAIM).and_then(Name::parse)
                && candidates.remove(&name).is_some()
            {
                places.insert(name, (stream.to_owned(), message.sequence));
            }
        }
        Ok(())
    }

    /// Removes a body that was referred to nowhere, unless its reference was moving, or somebody put it anew.
    async fn remove(&self, name: &Name, candidate: &Candidate) -> Result<bool, CollectError> {
        if stored::last(&self.js, CLAIMS_STREAM, &name.moved())
            .await?
            .is_some()
        {
            return Ok(false);
        }
        self.lead()?;
        let failed = |e: &dyn std::fmt::Display| CollectError::List(e.to_string());
        let stream = self
            .js
            .get_stream_no_info(BODIES_STREAM)
            .await
            .map_err(|e| failed(&e))?;
        if let Err(error) = stream.delete_message(candidate.sequence).await {
            tracing::debug!(%name, %error, "the body changed, or is gone already");
            return Ok(false);
        }
        claim::remove_pieces(&self.js, &candidate.nuid).await?;
        self.metrics.collected.inc();
        tracing::info!(%name, "removed a body that nobody referred to");
        Ok(true)
    }

    async fn next(&self, stream: &str, subjects: &str, from: u64) -> Result<Option<Stored>, CollectError> {
        self.lead()?;
        Ok(stored::next(&self.js, stream, subjects, from).await?)
    }

    fn lead(&self) -> Result<(), CollectError> {
        if self.leadership.leads() {
            Ok(())
        } else {
            Err(CollectError::Stepped)
        }
    }

    /// By the server's clock against ours; the grace is long beside what the two may differ.
    fn is_old(&self, message: &Stored) -> bool {
        let age = SystemTime::now().duration_since(message.time);
        age.is_ok_and(|age| age >= self.grace)
    }
}
