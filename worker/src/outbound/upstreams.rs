//! The upstreams of a service in order of preference, and which of them the next call goes to: the first that is in
//! service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Url;
use sha2::{Digest, Sha256};
use shared::breaker::{Record, Rule, Standing};
use shared::failure::Failure;
use shared::subject::Service;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::breaker::Breaker;
use super::fleet::{self, Fleet};
use super::lease::Lease;
use super::reach;
use crate::metrics::Metrics;

/// The code of a wait for an upstream that is out of service.
pub const OUT_OF_SERVICE: &str = "breaker";

/// What a probe takes beside the attempt itself, at most: its turn under the limits.
const AROUND_A_PROBE: Duration = Duration::from_secs(2);
/// How long an event waits that came for a probe which another makes.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// How long an event leaves the probe to others whose last attempt it would be, at most.
const SPARED: Duration = Duration::from_secs(30);

/// Where calls go.
#[derive(Debug)]
pub struct Upstream {
    /// Its URL as set, without a slash at its end.
    pub base: String,
    /// The same, parsed.
    pub url: Url,
    /// For people and metrics: no credentials, no path.
    pub shown: String,
    /// The key of its record.
    pub key: String,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) upstream: Arc<Upstream>,
    /// `None` where breakers are off.
    pub(super) breaker: Option<Arc<Breaker>>,
}

/// All upstreams of a service.
#[derive(Debug)]
pub struct Upstreams {
    shared: Arc<Shared>,
    _end: DropGuard,
}

/// What calls and the task that keeps in step share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) lines: Vec<Line>,
    pub(super) fleet: Option<Fleet>,
    /// One event at a time comes for a probe.
    one: Arc<Semaphore>,
    /// Counts changes, for those who wait for one.
    changes: watch::Sender<u64>,
    timeout: Duration,
}

/// What a service's upstreams are made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The service.
    pub service: &'a Service,
    /// URLs in order of preference.
    pub urls: &'a [String],
    /// What opens their breakers; `None` for none.
    pub rule: Option<Rule>,
    /// Whether it is looked at from time to time if they can be reached.
    pub looked_at: bool,
    /// Longest time of an attempt.
    pub timeout: Duration,
    /// Who we are, for people.
    pub worker: &'a str,
    /// Where states and transitions are counted.
    pub metrics: &'a Metrics,
    /// How to reach the rest of the fleet.
    pub fleet: Fleet,
}

/// Whether messages may be pulled.
#[derive(Debug)]
pub enum Admission {
    /// They may.
    Free,
    /// One may, for a probe.
    One(Candidate),
    /// None may.
    Wait {
        /// For how long, unless something changes.
        after: Duration,
        /// What had changed by now.
        seen: u64,
    },
}

/// The event that comes for a probe. Whether it makes it is decided when it is known that it needs a call.
#[derive(Debug)]
pub struct Candidate {
    one: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

/// No upstream is in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Out {
    /// When it is worthwhile to ask again.
    pub after: Duration,
    /// The upstream that is to be back first.
    pub upstream: String,
}

impl From<Out> for Failure {
    fn from(out: Out) -> Self {
        let detail = format!("{} is out of service", out.upstream);
        Self::throttled(OUT_OF_SERVICE, detail, out.after)
    }
}

impl Upstreams {
    /// Takes the URLs, and starts the tasks that look whether they can be reached and that keep the breakers in
    /// step with the fleet's; they end after this is dropped.
    ///
    /// # Errors
    /// A URL is none, or two are the same.
    pub fn start(tasks: &TaskTracker, parts: Parts<'_>) -> Result<Self, String> {
        let upstreams = named(parts.service, parts.urls)?;
        let of = upstreams.len() as u32;
        let line = |(place, upstream): (u32, Upstream)| {
            let breaker = parts.rule.map(|rule| {
                let unused = Record::new(&upstream.shown, place, of);
                let service = parts.service.as_str();
                let metrics = parts.metrics.breaker(service, &upstream.shown);
                Arc::new(Breaker::new(rule, parts.worker, service, unused, metrics))
            });
            Line {
                upstream: Arc::new(upstream),
                breaker,
            }
        };
        let shared = Arc::new(Shared {
            lines: (1..).zip(upstreams).map(line).collect(),
            fleet: parts.rule.is_some().then_some(parts.fleet),
            one: Arc::new(Semaphore::new(1)),
            changes: watch::Sender::new(0),
            timeout: parts.timeout,
        });
        let end = CancellationToken::new();
        for line in shared.lines.iter().filter(|_| parts.looked_at) {
            let metrics = parts.metrics.reach(parts.service.as_str(), &line.upstream.shown);
            reach::watch(
                tasks,
                parts.service,
                Arc::clone(&line.upstream),
                metrics,
                end.clone(),
            );
        }
        if parts.rule.is_some() {
            tasks.spawn(fleet::keep_in_step(Arc::clone(&shared), end.clone()));
        }
        Ok(Self {
            shared,
            _end: end.drop_guard(),
        })
    }

    /// Waits until it is known what is out of service, however long NATS keeps us waiting.
    pub async fn known(&self) {
        if let Some(fleet) = &self.shared.fleet {
            fleet.known().await;
        }
    }

    /// Whether messages may be pulled now.
    pub fn admission(&self) -> Admission {
        let seen = *self.shared.changes.borrow();
        let now = Instant::now();
        let (mut after, mut due) = (Duration::MAX, false);
        for line in &self.shared.lines {
            match line.standing(now) {
                Standing::Closed => return Admission::Free,
                Standing::Open(left) | Standing::Probing(left) => after = after.min(left),
                Standing::Due(_) => due = true,
            }
        }
        if due {
            if let Some(candidate) = self.shared.candidate() {
                return Admission::One(candidate);
            }
            // Its end is a change; the time is for nothing but safety.
            after = after.min(self.shared.timeout);
        }
        Admission::Wait { after, seen }
    }

    /// Waits for something to change that had not by `seen`, at most `after`.
    pub async fn moved(&self, after: Duration, seen: u64) {
        let mut changes = self.shared.changes.subscribe();
        let _ = tokio::time::timeout(after, changes.wait_for(|now| *now != seen)).await;
    }

    /// The first upstream in service, or a probe of one that is due. An event whose last attempt it is (`last`) leaves
    /// that to others for a while.
    ///
    /// # Errors
    /// None is.
    pub async fn choose(&self, candidate: Option<Candidate>, last: bool) -> Result<Lease, Out> {
        let mut candidate = candidate;
        let mut soonest: Option<Out> = None;
        for (at, line) in self.shared.lines.iter().enumerate() {
            let after = match line.standing(Instant::now()) {
                Standing::Closed => return Ok(self.lease(at, None)),
                Standing::Open(left) => left,
                Standing::Probing(left) => left.min(SOON),
                Standing::Due(since) => {
                    let spared = line.spared();
                    if last && since < spared {
                        spared.saturating_sub(since)
                    } else {
                        candidate = candidate.or_else(|| self.shared.candidate());
                        if candidate.is_some()
                            && let Some(lease) = Box::pin(self.probe(at)).await
                        {
                            return Ok(lease);
                        }
                        SOON
                    }
                }
            };
            if soonest.as_ref().is_none_or(|out| after < out.after) {
                let upstream = line.upstream.shown.clone();
                soonest = Some(Out { after, upstream });
            }
        }
        // There is at least one upstream.
        Err(soonest.unwrap_or_else(|| Out {
            after: SOON,
            upstream: String::new(),
        }))
    }

    /// The first upstream, if it is in service: for calls that nobody waits for, which neither probe nor fail over.
    pub fn preferred(&self) -> Option<Lease> {
        let first = self.shared.lines.first()?;
        (first.standing(Instant::now()) == Standing::Closed).then(|| self.lease(0, None))
    }

    async fn probe(&self, at: usize) -> Option<Lease> {
        let line = &self.shared.lines[at];
        let (breaker, fleet) = (line.breaker.as_ref()?, self.shared.fleet.as_ref()?);
        let asked = Instant::now();
        let claim = breaker.claim(self.shared.timeout + AROUND_A_PROBE, asked)?;
        let claimed = fleet.claim(&line.upstream.key, &claim).await?;
        let version = breaker.claimed(claim, claimed.stands(), asked)?;
        self.shared.changed();
        fleet.wake();
        Some(self.lease(at, Some((version, asked + AROUND_A_PROBE))))
    }

    fn lease(&self, at: usize, probe: Option<(u64, Instant)>) -> Lease {
        Lease::new(&self.shared, at, probe)
    }
}

impl Line {
    fn standing(&self, now: Instant) -> Standing {
        let breaker = self.breaker.as_ref();
        breaker.map_or(Standing::Closed, |breaker| breaker.standing(now))
    }

    fn spared(&self) -> Duration {
        let breaker = self.breaker.as_ref();
        breaker.map_or(Duration::ZERO, |breaker| breaker.lasts().min(SPARED))
    }
}

impl Shared {
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn candidate(self: &Arc<Self>) -> Option<Candidate> {
        let one = Arc::clone(&self.one).try_acquire_owned().ok()?;
        let shared = Arc::clone(self);
        Some(Candidate {
            one: Some(one),
            shared,
        })
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // The place is free before those who wait for it look again.
        drop(self.one.take());
        self.shared.changed();
    }
}

/// Upstreams with the names and keys that they have everywhere.
fn named(service: &Service, urls: &[String]) -> Result<Vec<Upstream>, String> {
    let mut named: Vec<Upstream> = Vec::with_capacity(urls.len());
    for base in urls {
        let url = Url::parse(base).map_err(|error| format!("a URL is none: {error}"))?;
        let mut bare = url.clone();
        let _ = bare.set_username("");
        let _ = bare.set_password(None);
        let origin = url.origin().ascii_serialization();
        let same = named.iter().filter(|other| other.url.origin() == url.origin());
        let shown = match same.count() {
            0 => origin,
            n => format!("{origin} #{}", n + 1),
        };
        let digest = Sha256::digest(bare.as_str().trim_end_matches('/'));
        let bytes = digest.iter().take(6);
        let id = bytes.fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
        let key = service.breaker_key(&format!("{id:012x}"));
        if named.iter().any(|other| other.key == key) {
            let origin = url.origin().ascii_serialization();
            return Err(format!("two URLs are the same upstream, {origin}"));
        }
        named.push(Upstream {
            base: base.clone(),
            url,
            shown,
            key,
        });
    }
    Ok(named)
}

#[cfg(test)]
mod tests;
