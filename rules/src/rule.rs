//! A rule, as its file says it.

use std::fmt;

use shared::event::{Event, Tenant};
use shared::subject::Service;

use crate::template::{Expression, Template, Uses};
use crate::tree::Tree;

/// On these events emit those.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, `[a-z][a-z0-9-]*`; part of the ids of what it emits.
    pub name: String,
    /// The line of the file where it begins.
    pub line: usize,
    pub(crate) on: On,
    pub(crate) when: Option<Expression>,
    pub(crate) each: Option<Expression>,
    pub(crate) dedup: Option<Template>,
    pub(crate) emit: Emit,
}

/// Which events a rule concerns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct On {
    pub(crate) service: Service,
    pub(crate) types: Vec<Pattern>,
    pub(crate) source: Option<String>,
    pub(crate) tenant: Option<String>,
}

/// An event type, or the beginning of some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This type.
    Is(String),
    /// All types that begin so.
    Begins(String),
}

/// What a rule emits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Emit {
    pub(crate) service: Service,
    pub(crate) kind: Template,
    pub(crate) priority: Option<Tree>,
    pub(crate) key: Option<Template>,
    pub(crate) tenant: Option<Template>,
    pub(crate) data: Option<Tree>,
    pub(crate) context: Option<Tree>,
}

impl Rule {
    /// The service whose events it is on.
    pub fn service(&self) -> &Service {
        &self.on.service
    }

    /// The source of the events that it is on, where only one's are.
    pub fn source(&self) -> Option<&str> {
        self.on.source.as_deref()
    }

    /// The event types that it is on.
    pub fn types(&self) -> &[Pattern] {
        &self.on.types
    }

    /// The type of what it emits, where that is always the same.
    pub fn emitted(&self) -> Option<&str> {
        self.emit.kind.fixed()
    }

    /// The service that its events go to.
    pub fn target(&self) -> &Service {
        &self.emit.service
    }

    /// Whether it emits on every event that it concerns.
    pub(crate) fn is_unconditional(&self) -> bool {
        self.when.is_none() && self.each.is_none()
    }

    /// What of an event it looks at.
    pub(crate) fn uses(&self) -> Uses {
        let emit = &self.emit;
        let expressions = [&self.when, &self.each]
            .into_iter()
            .flatten()
            .map(Expression::uses);
        let texts = [&self.dedup, &emit.key, &emit.tenant].into_iter().flatten();
        let texts = texts.chain([&emit.kind]).map(Template::uses);
        let trees = [&emit.priority, &emit.data, &emit.context].into_iter().flatten();
        expressions
            .chain(texts)
            .chain(trees.map(Tree::uses))
            .fold(Uses::default(), Uses::and)
    }
}

impl On {
    /// Whether it concerns this event.
    pub(crate) fn fits(&self, service: &Service, event: &Event) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        self.service == *service
            && self.types.iter().any(|pattern| pattern.fits(&event.kind))
            && is(&self.source, event.source.as_deref())
            && is(&self.tenant, event.tenant.as_ref().map(Tenant::as_str))
    }
}

impl Pattern {
    /// Whether a type is one of these.
    pub fn fits(&self, kind: &str) -> bool {
        match self {
            Self::Is(name) => kind == name,
            Self::Begins(start) => kind.starts_with(start),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(name) => f.write_str(name),
            Self::Begins(start) => write!(f, "{start}*"),
        }
    }
}
