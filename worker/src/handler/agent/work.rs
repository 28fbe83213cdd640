//! One event's work, across its steps: what it has, and what it came to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::event::{Event, EventId};
use shared::failure::Failure;

use super::ask::{Ask, Request};
use super::desk::Desk;
use super::kept::Kept;
use super::money::Usage;
use super::purse::Purse;

/// One event's work.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) event: EventId,
    pub(super) tenant: String,
    pub(super) prompt_version: String,
    cache: Option<bool>,
    /// Answers of earlier deliveries, by step.
    pub(super) kept: HashMap<String, Kept>,
    pub(super) purse: Purse,
    sum: Mutex<Sum>,
}

/// What an event has come to by now.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum {
    pub(super) usage: Usage,
    /// Calls that this delivery paid for.
    pub(super) calls: u32,
    /// Answers that were there.
    pub(super) reused: u32,
    /// The price lists, by model.
    pub(super) prices: BTreeMap<String, String>,
}

impl Work {
    pub(super) async fn begin(desk: &Desk, event: &Event, ask: &Ask) -> Result<Self, Failure> {
        let kept = desk.shelf.of(&event.id).await?;
        let tenant = event.tenant.as_ref().map_or("", |tenant| tenant.as_str());
        Ok(Self {
            event: event.id.clone(),
            tenant: tenant.to_owned(),
            prompt_version: ask.prompt_version.clone(),
            cache: ask.cache,
            kept,
            purse: Purse::new(desk.shelf.clone(), event.id.clone(), desk.budget.bounds.event),
            sum: Mutex::default(),
        })
    }

    pub(super) fn sum(&self) -> MutexGuard<'_, Sum> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an answer to the same question may be used.
    pub(super) fn shares(&self, request: &Request) -> bool {
        self.cache.unwrap_or(request.temperature == Some(0.0))
    }

    /// Counts an answer that the event uses.
    pub(super) fn use_of(&self, kept: &Kept, paid: bool) {
        let mut sum = self.sum();
        sum.usage = sum
            .usage
            .plus(if kept.reused { Usage::default() } else { kept.usage });
        sum.calls += u32::from(paid);
        sum.reused += u32::from(!paid);
        if !kept.price.is_empty() {
            sum.prices.insert(kept.model.clone(), kept.price.clone());
        }
    }
}
