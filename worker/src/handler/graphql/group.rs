//! Events that go together: what is asked for twice is asked once, and each gets what is its own.

use serde_json::Value;
use shared::failure::Failure;

use super::{Call, merge};
use crate::handler::{Completion, Outcome};

/// The requests of several events.
#[derive(Debug)]
pub(in crate::handler) struct Group<'a> {
    calls: Vec<&'a Call>,
    /// Of each request, the first event that asks for it.
    pub(in crate::handler) firsts: Vec<usize>,
    /// Of each event, its request; `None` for an event that asks for nothing.
    places: Vec<Result<Option<usize>, Failure>>,
}

impl<'a> Group<'a> {
    /// Of these events' requests.
    pub(in crate::handler) fn of(all: impl Iterator<Item = Result<Option<&'a Call>, &'a Failure>>) -> Self {
        let mut group = Self {
            calls: Vec::new(),
            firsts: Vec::new(),
            places: Vec::new(),
        };
        for (at, call) in all.enumerate() {
            let place = call.map_err(Clone::clone).map(|call| {
                let call = call?;
                let known = group
                    .calls
                    .iter()
                    .position(|other| call.reads() && *other == call);
                if known.is_none() {
                    group.calls.push(call);
                    group.firsts.push(at);
                }
                known.or(Some(group.calls.len() - 1))
            });
            group.places.push(place);
        }
        group
    }

    /// How many requests there are.
    pub(in crate::handler) fn len(&self) -> usize {
        self.calls.len()
    }

    /// All of them in one; `None` without any.
    pub(in crate::handler) fn body(&self) -> Option<Value> {
        match self.calls.as_slice() {
            [] => None,
            [one] => Some(one.body()),
            several => Some(merge(several)),
        }
    }

    /// Each event's outcome, from those of the requests. What is `None`, and what was refused as a whole, is to be tried
    /// alone.
    pub(in crate::handler) fn spread(
        self,
        outcomes: &Result<Vec<Option<Outcome>>, Failure>,
    ) -> Vec<Option<Outcome>> {
        let several = self.calls.len() > 1;
        let of = |place: Result<Option<usize>, Failure>| match place {
            Err(failure) => Some(Err(failure)),
            Ok(None) => Some(Ok(Completion::nothing_to_do())),
            Ok(Some(at)) => match outcomes {
                Ok(outcomes) => outcomes.get(at).cloned().unwrap_or_else(|| {
                    Some(Err(Failure::unknown("answer", "it says nothing of this event")))
                }),
                Err(Failure::Permanent { .. }) if several => None,
                Err(failure) => Some(Err(failure.clone())),
            },
        };
        self.places.into_iter().map(of).collect()
    }
}
