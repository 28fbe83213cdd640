//! The shared limits as one service meets them: how much may be pulled, and the taking for each call.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::limiter::{Charge, Limiter, Unavailable};
use tokio_util::task::TaskTracker;

use crate::batch::{Batcher, Gone};

/// What the last answer said is believed for so long before the buckets are asked again only to look.
const FRESH: Duration = Duration::from_millis(20);
/// Most calls decided in one round trip.
const BATCH: usize = 512;

/// The limits of one service.
#[derive(Debug)]
pub struct Quota {
    limiter: Limiter,
    /// What every call of the service falls under.
    base: Arc<[Charge]>,
    calls: Batcher<Arc<[Charge]>, Result<Passage, String>>,
    /// What the base buckets had left, and when they said so.
    seen: Arc<Mutex<(u32, Instant)>>,
}

/// Whether a call may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It may, and is booked.
    Go,
    /// Not before this time has passed; nothing is booked.
    Wait(Duration),
}

impl Quota {
    /// The limits of a service whose every call falls under `base`.
    pub fn new(tasks: &TaskTracker, limiter: Limiter, base: Arc<[Charge]>) -> Self {
        let seen = Arc::new(Mutex::new((0, Instant::now())));
        let calls = Batcher::start(tasks, BATCH, 1, {
            let (limiter, base, seen) = (limiter.clone(), Arc::clone(&base), Arc::clone(&seen));
            move |calls| {
                let (limiter, base, seen) = (limiter.clone(), Arc::clone(&base), Arc::clone(&seen));
                async move { decide(&limiter, &base, &seen, calls).await }
            }
        });
        Self {
            limiter,
            base,
            calls,
            seen,
        }
    }

    /// How many calls the service's own limits would let through now, or how long until the first. Books nothing.
    pub async fn admits(&self) -> Result<Result<u32, Duration>, Unavailable> {
        if self.base.is_empty() {
            return Ok(Ok(u32::MAX));
        }
        let (left, at) = *self.seen();
        if left > 0 && at.elapsed() < FRESH {
            return Ok(Ok(left));
        }
        let grant = self.limiter.take(&self.base, 0).await?;
        *self.seen() = (grant.left, Instant::now());
        Ok(if grant.left > 0 {
            Ok(grant.left)
        } else {
            Err(grant.wait)
        })
    }

    /// Asks for one call under the service's limits and `extra` ones.
    pub async fn pass(&self, extra: Vec<Charge>) -> Result<Result<Passage, String>, Gone> {
        if self.base.is_empty() && extra.is_empty() {
            return Ok(Ok(Passage::Go));
        }
        let charges = if extra.is_empty() {
            Arc::clone(&self.base)
        } else {
            self.base.iter().cloned().chain(extra).collect()
        };
        self.calls.ask(charges).await
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, (u32, Instant)> {
        self.seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Decides for many calls: those under the same limits in one round trip, first come first served.
async fn decide(
    limiter: &Limiter,
    base: &Arc<[Charge]>,
    seen: &Mutex<(u32, Instant)>,
    calls: Vec<Arc<[Charge]>>,
) -> Vec<Result<Passage, String>> {
    let mut groups: Vec<(Arc<[Charge]>, Vec<usize>)> = Vec::new();
    for (i, charges) in calls.iter().enumerate() {
        match groups
            .iter_mut()
            .find(|(group, _)| Arc::ptr_eq(group, charges) || group == charges)
        {
            Some((_, members)) => members.push(i),
            None => groups.push((Arc::clone(charges), vec![i])),
        }
    }
    let mut answers = vec![Ok(Passage::Go); calls.len()];
    for (charges, members) in groups {
        match limiter.take(&charges, members.len() as u32).await {
            Ok(grant) => {
                if Arc::ptr_eq(&charges, base) {
                    *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        (grant.left, Instant::now());
                }
                for i in members.into_iter().skip(grant.granted as usize) {
                    answers[i] = Ok(Passage::Wait(grant.wait));
                }
            }
            Err(error) => members
                .into_iter()
                .for_each(|i| answers[i] = Err(error.to_string())),
        }
    }
    answers
}
