//! The latest observation of each service and how old it is. An old one is shown as old, never as current.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use shared::subject::Service;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::observe::Observation;
use crate::signal::Scaling;

/// After how many intervals without a new observation the last one is stale.
pub(crate) const FRESH_INTERVALS: u32 = 3;

/// What one replica knows.
#[derive(Debug)]
pub struct Board {
    fresh_for: Duration,
    /// `None` until a service was observed for the first time.
    latest: RwLock<BTreeMap<Service, Option<Entry>>>,
    /// Told of every look.
    rounds: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    observation: Observation,
    /// Or why it cannot be told.
    scaling: Result<Scaling, String>,
    at: Instant,
}

impl Entry {
    fn known(&self, fresh_for: Duration) -> Known {
        let age = self.at.elapsed();
        if age <= fresh_for {
            Known::Fresh(self.observation.clone(), age)
        } else {
            Known::Stale(self.observation.clone(), age)
        }
    }
}

/// What is known of a service right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Observed within the last three intervals.
    Fresh(Observation, Duration),
    /// Observed longer ago: how it was, and how long ago.
    Stale(Observation, Duration),
    /// Never observed.
    Never,
}

impl Board {
    /// Nothing known yet of these services.
    pub fn new(services: &[Service], interval: Duration) -> Self {
        let latest = services.iter().map(|service| (service.clone(), None)).collect();
        Self {
            fresh_for: interval * FRESH_INTERVALS,
            latest: RwLock::new(latest),
            rounds: watch::Sender::new(0),
        }
    }

    /// Takes a new observation that was asked for `at` a time, and the workers that it calls for, or why they cannot be told.
    pub fn put(
        &self,
        service: &Service,
        observation: Observation,
        scaling: Result<Scaling, String>,
        at: Instant,
    ) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        let entry = Entry {
            observation,
            scaling,
            at,
        };
        latest.insert(service.clone(), Some(entry));
    }

    /// Tells those that wait for it that a service was looked at, whether it could be observed or not.
    pub fn looked(&self) {
        self.rounds.send_modify(|round| *round += 1);
    }

    /// Changes whenever a service was looked at.
    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    /// What is known of one service, and the workers that it calls for; `None` when the fleet has no such service.
    pub fn known(&self, service: &Service) -> Option<(Known, Result<Scaling, String>)> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        Some(match latest.get(service)? {
            None => (Known::Never, Err("never observed".to_owned())),
            Some(entry) => (entry.known(self.fresh_for), entry.scaling.clone()),
        })
    }

    /// What is known of every service, by name.
    pub fn all(&self) -> Vec<(Service, Known)> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        let known = |entry: &Option<Entry>| {
            entry
                .as_ref()
                .map_or(Known::Never, |entry| entry.known(self.fresh_for))
        };
        latest
            .iter()
            .map(|(service, entry)| (service.clone(), known(entry)))
            .collect()
    }

    /// Whether every service was observed lately; otherwise which was not.
    pub fn fresh(&self) -> Result<(), String> {
        let missing: Vec<String> = self
            .all()
            .into_iter()
            .filter_map(|(service, known)| match known {
                Known::Fresh(..) => None,
                Known::Stale(_, age) => Some(format!("{service} was last observed {} s ago", age.as_secs())),
                Known::Never => Some(format!("{service} was never observed")),
            })
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_observation_ages_and_is_never_taken_for_a_new_one() {
        let http = Service::new("http").unwrap();
        let board = Board::new(std::slice::from_ref(&http), Duration::from_secs(5));
        assert_eq!(board.all(), [(http.clone(), Known::Never)]);
        assert!(board.fresh().unwrap_err().contains("http was never observed"));
        let observation = Observation {
            lanes: Vec::new(),
            retrying: Some(1),
            dead: None,
            oldest_at: None,
            observed_at: 7,
        };
        board.put(&http, observation.clone(), Err("test".to_owned()), Instant::now());
        tokio::time::advance(Duration::from_secs(15)).await;
        board.fresh().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            board.all(),
            [(http, Known::Stale(observation, Duration::from_secs(16)))]
        );
        assert!(board.fresh().unwrap_err().contains("16 s ago"));
    }
}
