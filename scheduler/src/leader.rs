//! One leader among the replicas, by a key that the server forgets when nobody renews it.
//!
//! Creating the key wins, updating it at the revision last written renews, deleting it gives it back. A leader that
//! cannot renew steps down before the server could give the key to another: see [`MARGIN`].

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use shared::config::fleet::Streams;
use shared::topology::{self, LEADER_TTL, TopologyError};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Pause between two renewals, and between two tries to win.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How long before the server forgets the key its holder steps down by itself: room for one action of a job that
/// has just checked, and for clocks that run at different speeds.
pub const MARGIN: Duration = Duration::from_secs(2);
/// How long giving the leadership back may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

const KEY: &str = "leader";

#[derive(Debug, Clone, Copy)]
struct Term {
    revision: u64,
    /// From then on it may be somebody else's.
    until: Instant,
}

impl Term {
    /// `asked` is from before the request: the server counts from a later moment.
    fn new(revision: u64, asked: Instant) -> Self {
        Self {
            revision,
            until: asked + LEADER_TTL - MARGIN,
        }
    }
}

/// Whether this replica leads. Ask before every action of a job.
#[derive(Debug, Clone)]
pub struct Leadership(Arc<watch::Sender<Option<Term>>>);

impl Leadership {
    /// Not leading.
    #[allow(
        clippy::new_without_default,
        reason = "a default leadership reads as if it led"
    )]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Whether this replica leads right now.
    pub fn leads(&self) -> bool {
        self.0.borrow().is_some_and(|term| Instant::now() < term.until)
    }

    /// Waits until this replica leads.
    pub async fn elected(&self) {
        let mut terms = self.0.subscribe();
        // Cannot fail: the sender is in `self`.
        let _ = terms
            .wait_for(|term| term.is_some_and(|term| Instant::now() < term.until))
            .await;
    }
}

/// A replica that stands for election.
#[derive(Debug, Clone)]
pub struct Candidate {
    js: jetstream::Context,
    streams: Streams,
    leadership: Leadership,
    /// Tells its own key from another replica's.
    id: Bytes,
}

impl Candidate {
    /// A candidate with a name of its own.
    pub fn new(js: jetstream::Context, streams: Streams, leadership: Leadership) -> Self {
        Self {
            js,
            streams,
            leadership,
            id: Uuid::now_v7().to_string().into(),
        }
    }

    /// Wins, renews and loses until `shutdown`, then gives back what it holds.
    pub async fn stand(self, shutdown: CancellationToken) -> Result<(), TopologyError> {
        let Some(bucket) = shutdown
            .run_until_cancelled(topology::leader_bucket(&self.js, &self.streams))
            .await
        else {
            return Ok(());
        };
        let bucket = bucket?;
        loop {
            // Not cut short by a shutdown: the revision that comes back is needed to give the key back.
            if timeout(RENEW_EVERY, self.turn(&bucket)).await.is_err()
                && self.leadership.0.send_replace(None).is_some()
            {
                tracing::warn!("leadership lost: the server does not answer");
            }
            if shutdown
                .run_until_cancelled(tokio::time::sleep(RENEW_EVERY))
                .await
                .is_none()
            {
                break;
            }
        }
        if let Some(term) = self.leadership.0.send_replace(None) {
            let given_back = bucket.delete_expect_revision(KEY, Some(term.revision));
            if let Ok(Ok(())) = timeout(RELEASE_WITHIN, given_back).await {
                tracing::info!("leadership given back");
            } else {
                tracing::warn!("leadership was not given back and runs out by itself");
            }
        }
        Ok(())
    }

    async fn turn(&self, bucket: &kv::Store) {
        let held = *self.leadership.0.borrow();
        let asked = Instant::now();
        let outcome = match held {
            Some(term) => bucket
                .update(KEY, self.id.clone(), term.revision)
                .await
                .map_err(|error| error.to_string()),
            None => self.win(bucket).await,
        };
        match outcome {
            Ok(revision) => {
                if held.is_none() {
                    tracing::info!(revision, "this replica leads");
                }
                self.leadership.0.send_replace(Some(Term::new(revision, asked)));
            }
            Err(error) => {
                self.leadership.0.send_replace(None);
                if held.is_some() {
                    tracing::warn!(error, "leadership lost");
                }
            }
        }
    }

    /// Creates the key, or takes up one that is its own: an answer may have been lost on the way.
    async fn win(&self, bucket: &kv::Store) -> Result<u64, String> {
        let refused = match bucket.create(KEY, self.id.clone()).await {
            Ok(revision) => return Ok(revision),
            Err(error) => error,
        };
        if refused.kind() != kv::CreateErrorKind::AlreadyExists {
            // Somebody may have deleted the bucket. The next turn tries again.
            let _ = topology::leader_bucket(&self.js, &self.streams).await;
            return Err(refused.to_string());
        }
        match bucket.entry(KEY).await {
            Ok(Some(entry)) if entry.operation == kv::Operation::Put && entry.value == self.id => bucket
                .update(KEY, self.id.clone(), entry.revision)
                .await
                .map_err(|error| error.to_string()),
            Ok(_) | Err(_) => Err(refused.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_does_not_renew_steps_down_before_the_server_forgets_it() {
        let leadership = Leadership::new();
        assert!(!leadership.leads());
        leadership.0.send_replace(Some(Term::new(1, Instant::now())));
        leadership.elected().await;
        tokio::time::advance(LEADER_TTL.checked_sub(MARGIN + Duration::from_millis(1)).unwrap()).await;
        assert!(leadership.leads());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!leadership.leads());
    }
}
