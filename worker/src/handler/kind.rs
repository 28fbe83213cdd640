//! What a handler's file says of it: its name, its defaults, its settings, and how it is made.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionManager;
use shared::config::Reader;
use shared::limiter::Limiter;
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

use super::Handler;
use crate::config::ServiceConfig;
use crate::effect::Policy;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::provider::Provider;

/// The URL of a handler that makes no calls: nobody sets another, and nothing takes it out of service.
pub const NO_URL: &str = "none:";

/// A handler that ships.
pub struct Kind {
    /// By which name the setting `_HANDLER` knows it, and the service that has it without that setting.
    pub name: &'static str,
    /// Where the API is unless the settings say otherwise; empty where they must say it.
    pub url: &'static str,
    /// The event types that it does something with; one with `.*` at its end stands for itself without that, and for all
    /// that go on behind the dot. Empty: it does something with any.
    pub types: &'static [&'static str],
    /// Events in flight at once in one worker, unless the settings say otherwise.
    pub concurrency: u64,
    /// Longest time of an attempt, unless the settings say otherwise.
    pub timeout: Duration,
    /// Whose limits hold unless the settings say otherwise.
    pub provider: Provider,
    /// What happens when nobody knows what became of a call, unless the settings say otherwise: the strictest that the
    /// handler can keep.
    pub unknown: Policy,
    /// The limits that only some calls fall under: the handler charges them itself.
    pub charged_apart: &'static [&'static str],
    /// Whether its calls go to our users' own endpoints, which get the trace context.
    pub own_endpoint: bool,
    /// Whether it tells what events read ([`Handler::read`]), which is kept as long as the setting `_CACHE` says.
    pub caches: bool,
    /// Reads the settings that only this handler has; every name begins with the prefix given, for example
    /// `WEIR_SERVICE_HTTP`, and `_`.
    pub read: fn(&mut Reader<'_>, &str) -> Arc<dyn Make>,
}

/// A handler's own settings, read and checked.
pub trait Make: Debug + Send + Sync {
    /// Makes the handler of a service.
    ///
    /// # Errors
    /// Settings that each are right and do not go together with what the machine has.
    fn make(&self, config: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String>;

    /// Tells which settings do not go together with those that every service has.
    fn check(&self, config: &ServiceConfig, reader: &mut Reader<'_>) {
        let _ = (config, reader);
    }

    /// Where its calls go beside the service's `_URL`.
    fn urls(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether calls go to the service's `_URL`, so that it is worth looking whether that can be reached.
    fn calls_its_url(&self) -> bool {
        true
    }

    /// Whom the provider counts calls for, where that is not the service's `_TOKEN`.
    fn identity(&self) -> Option<String> {
        None
    }
}

/// What a handler is made from, beside settings.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Its client.
    pub outbound: Outbound,
    /// The fleet's Redis.
    pub redis: ConnectionManager,
    /// The fleet's buckets.
    pub limiter: Limiter,
    /// The worker's metrics.
    pub metrics: Metrics,
    /// The fleet's Postgres; `None` where nothing is recorded.
    pub database: Option<PgPool>,
    /// How long dead letters are kept, which can be replayed until then.
    pub dead_max_age: Duration,
    /// Tasks that end by themselves when nobody needs them any more; a worker waits for them before it exits.
    pub background: TaskTracker,
}

impl Kind {
    /// Whether it does something with events of this type, as far as the type tells.
    pub fn takes(&self, kind: &str) -> bool {
        let fits = |known: &&str| match known.strip_suffix(".*") {
            Some(known) => kind
                .strip_prefix(known)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
            None => kind == *known,
        };
        self.types.is_empty() || self.types.iter().any(fits)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kind {}

impl Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
