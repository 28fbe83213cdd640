//! On this event emit that one: what rules files say, and which events follow from one that is done. Pure: no server, no
//! clock, no chance; workers and `weir rules check` decide with the same code. `docs/rules.md` describes the file.
//!
//! Whoever writes a rules file is trusted as far as any settings are; events are not. Everything has a bound whatever
//! stands in either: the steps of a template, what it may put together, and what comes out of it.

mod chain;
mod cycle;
mod decide;
mod id;
mod read;
mod rule;
mod template;
mod tree;

use std::collections::BTreeSet;

use shared::event::Event;
use shared::subject::Service;

pub use chain::Chain;
pub use decide::{Decided, Failure, FollowUp, Input, decide};
pub use read::Problem;
pub use rule::{Pattern, Rule};

/// The code of a decision that failed.
pub const FAILED: &str = "rule";
/// The code of a decision that would make a chain of follow-ups too long.
pub const LOOPED: &str = "rule_loop";
/// The source of an event that a rule emitted.
pub const SOURCE: &str = "rules";
/// The field of an event that travels with all that follow from it.
pub const CONTEXT: &str = "context";

/// Most rules of a file.
pub const MAX_RULES: usize = 500;
/// Longest name of a rule in bytes.
pub const MAX_NAME: usize = 64;
/// Most events that one rule emits on one event.
pub const MAX_EACH: usize = 100;
/// Most bytes that templates are given of one event: `data`, `result` and `context`, each as JSON.
pub const MAX_INPUT: usize = 1 << 20;
/// Most values in each of these, those within others included.
pub const MAX_VALUES: usize = 50_000;
/// Most bytes of the data of an emitted event, as JSON.
pub const MAX_DATA: usize = 512 << 10;
/// Most bytes of the context of an emitted event, as JSON.
pub const MAX_CONTEXT: usize = 16 << 10;
/// Most bytes of data that follow from one event, all rules together.
pub const MAX_TOTAL: usize = 4 << 20;
/// Events that may follow one from the other unless the settings say otherwise.
pub const HOPS: usize = 8;
/// The most that they may be made to say.
pub const MAX_HOPS: usize = 32;

/// The rules of a file, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Reads a rules file. `known` are the services there are; `None` where nobody knows.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of its lines.
    pub fn read(text: &str, known: Option<&[Service]>) -> Result<Self, Vec<Problem>> {
        read::read(text, known).map(Self)
    }

    /// All of them, in the order of the file.
    pub fn all(&self) -> &[Rule] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those on the events of one service.
    #[must_use]
    pub fn of(&self, service: &Service) -> Self {
        let own = self.0.iter().filter(|rule| rule.on.service == *service);
        Self(own.cloned().collect())
    }

    /// The services that events are emitted to.
    pub fn targets(&self) -> BTreeSet<&Service> {
        self.0.iter().map(|rule| &rule.emit.service).collect()
    }

    /// Those that an event concerns, its data not looked at.
    pub fn on(&self, service: &Service, event: &Event) -> Vec<Rule> {
        let own = self.0.iter().filter(|rule| rule.on.fits(service, event));
        own.cloned().collect()
    }
}
