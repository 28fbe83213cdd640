//! The limits of a service, its models and its budgets, as they stand.

use shared::limiter::live::Now;
use shared::subject::Service;

use super::budgets::{self, Budget};
use super::plan;
use crate::failure::Failure;
use crate::fleet::Reached;
use crate::limits::buckets::{self, Buckets, Limit};
use crate::limits::models::{self, Model};
use crate::limits::now;

/// The limits of a service as they stand.
pub(super) struct Limits {
    pub(super) now: Option<Now>,
    pub(super) all: Vec<Limit>,
    pub(super) models: Vec<Model>,
    /// Of the service itself.
    pub(super) budgets: Vec<Budget>,
    /// Why nothing is known of how they stand.
    pub(super) away: Option<String>,
    pub(super) buckets: Option<Buckets>,
}

impl Limits {
    /// Reads them; Redis being away is told, not failed for.
    pub(super) async fn read(reached: &Reached, service: &Service) -> Result<Self, Failure> {
        let now = now(&reached.js, service).await?;
        let buckets = Buckets::open(&reached.redis_url).map_err(Failure::failed)?;
        let Some(said) = &now else {
            return Ok(Self {
                now,
                all: Vec::new(),
                models: Vec::new(),
                budgets: Vec::new(),
                away: None,
                buckets: None,
            });
        };
        let mut models = models::models(said);
        let asked = async {
            models::read(&buckets, &mut models).await?;
            let budgets = budgets::read(&reached.redis_url, service, said, None).await?;
            Ok((buckets.limits(said).await?, budgets))
        };
        let (all, budgets, away) = match asked.await {
            Ok((all, budgets)) => (all, budgets, None),
            Err(why) => (buckets::limits(said), Vec::new(), Some(why)),
        };
        Ok(Self {
            now,
            all,
            models,
            budgets,
            buckets: away.is_none().then_some(buckets),
            away,
        })
    }

    /// Of a service that has none but its models'.
    #[cfg(test)]
    pub(super) fn of(models: Vec<Model>, away: Option<String>) -> Self {
        Self {
            now: None,
            all: Vec::new(),
            models,
            budgets: Vec::new(),
            away,
            buckets: None,
        }
    }

    /// Why the next call does not begin, as a sentence; `None` when no limit is in its way.
    pub(super) fn because(&self) -> Option<String> {
        let Some(away) = &self.away else {
            return plan::in_the_way(&self.all).map(plan::because);
        };
        if self.all.iter().all(|limit| limit.apart || limit.shadow) {
            return None;
        }
        let share = self.now.as_ref().is_some_and(|now| now.away == "share");
        let then = if share {
            "each worker makes its share of half the limit meanwhile"
        } else {
            "no call begins until it is back"
        };
        Some(format!("Limits cannot be asked, so {then}. {away}"))
    }

    /// The buckets of channels, methods and the like that are in the way of some calls.
    pub(super) async fn apart(&self) -> Vec<Limit> {
        let (Some(now), Some(buckets)) = (&self.now, &self.buckets) else {
            return Vec::new();
        };
        let keys = buckets
            .apart(now)
            .await
            .map(|apart| apart.keys)
            .unwrap_or_default();
        let some = self.all.iter().filter(|limit| limit.apart).cloned();
        some.chain(keys).filter(Limit::holds).collect()
    }
}
