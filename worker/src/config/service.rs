//! The settings of one service.

use std::sync::Arc;
use std::time::Duration;

use shared::backoff::Schedule;
use shared::breaker::Rule;
use shared::cache::LONGEST;
use shared::config::Reader;
use shared::subject::Service;

use super::{limits, upstreams};
use crate::effect::Policy as Unknown;
use crate::handler::{Kind, Make};
use crate::limits::Table;
use crate::provider::Provider;
use crate::quota::away::Policy;

/// Settings of one service: `WEIR_SERVICE_<NAME>_*`.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Its name.
    pub service: Service,
    /// `_HANDLER`: which code handles it; by default the one of the service's name.
    pub kind: &'static Kind,
    /// `_CONCURRENCY`: events in flight at once in this worker.
    pub concurrency: usize,
    /// `_TIMEOUT`: longest time for one attempt.
    pub timeout: Duration,
    /// `_PROVIDER`: whose limits and headers; by default the handler's.
    pub provider: Provider,
    /// `_LIMIT` and `_LIMITS`: what the API allows the credential.
    pub limits: Table,
    /// `_REDIS_AWAY`: what happens while Redis cannot be asked.
    pub away: Policy,
    /// `_RETRIES`: delays before the next attempts.
    pub retries: Schedule,
    /// `_UNKNOWN`: what happens to an event when nobody knows what became of its call.
    pub unknown: Unknown,
    /// `_URL`: where the API is, or where to deliver; several in order of preference. `none:` where no call is made.
    pub urls: Vec<String>,
    /// `_BREAKER`: what takes one of them out of service; `None` for nothing.
    pub breaker: Option<Rule>,
    /// `_CACHE`: how old an answer that was read may be, unless the event says so; zero: each is asked for. Read only where
    /// the handler tells what events read.
    pub cache: Duration,
    /// `_TOKEN`: the credential of an API.
    pub token: Option<String>,
    /// What only its handler reads.
    pub own: Arc<dyn Make>,
}

impl ServiceConfig {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        service: Service,
        kinds: &[&'static Kind],
        ahead: Duration,
        recorded: bool,
    ) -> Self {
        let named = |name: &str| kinds.iter().find(|kind| kind.name == name).copied();
        let prefix = prefix(&service);
        let name = |suffix: &str| format!("{prefix}_{suffix}");
        let kind = match reader.optional(&name("HANDLER")) {
            Some(handler) => named(&handler).ok_or(handler),
            None => named(service.as_str()).ok_or_else(String::new),
        };
        let kind = kind.unwrap_or_else(|handler| {
            let given = if handler.is_empty() {
                "is missing".into()
            } else {
                format!("is {handler:?}")
            };
            reader.problem(
                &name("HANDLER"),
                format!(
                    "{given}: must be one of {}",
                    kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
                ),
            );
            &crate::handler::http::KIND
        });
        let second = Duration::from_secs(1);
        let timeout = reader.duration(
            &name("TIMEOUT"),
            kind.timeout,
            Duration::from_millis(10)..=second * 3600,
        );
        let provider = reader.with(
            &name("PROVIDER"),
            kind.provider,
            |text| {
                Provider::named(text)
                    .ok_or_else(|| format!("is {text:?}: must be one of {}", Provider::names()))
            },
            |provider| provider.as_str().into(),
        );
        let limits = limits::read(reader, &prefix, provider, ahead);
        let (urls, breaker) = upstreams::read(reader, &prefix, kind);
        let cache = if kind.caches {
            reader.duration(&name("CACHE"), Duration::ZERO, Duration::ZERO..=LONGEST)
        } else {
            Duration::ZERO
        };
        let config = Self {
            cache,
            concurrency: reader.number(&name("CONCURRENCY"), kind.concurrency, 1..=100_000) as usize,
            retries: reader.parsed(&name("RETRIES"), Schedule::default()),
            token: reader.secret_line(&name("TOKEN")),
            away: reader.parsed(&name("REDIS_AWAY"), Policy::default()),
            unknown: unknown(reader, &name("UNKNOWN"), kind, recorded),
            own: (kind.read)(reader, &prefix),
            service,
            kind,
            timeout,
            provider,
            limits,
            urls,
            breaker,
        };
        config.own.check(&config, reader);
        config
    }
}

/// What happens to calls of which nobody knows the end. Only what is recorded can be told from what is new.
fn unknown(reader: &mut Reader<'_>, name: &str, kind: &Kind, recorded: bool) -> Unknown {
    let strictest = if recorded { kind.unknown } else { Unknown::Retry };
    let unknown = reader.parsed(name, strictest);
    if unknown == Unknown::LookUp && kind.unknown != Unknown::LookUp {
        reader.problem(name, "is look-up: there is nobody to ask; must be dead or retry");
    }
    if !recorded && unknown != Unknown::Retry {
        let what =
            format!("is {unknown}: with WEIR_POSTGRES_URL=none nothing is noted, and only retry is possible");
        reader.problem(name, what);
    }
    unknown
}

/// `WEIR_SERVICE_<NAME>`.
pub(super) fn prefix(service: &Service) -> String {
    format!(
        "WEIR_SERVICE_{}",
        service.as_str().to_ascii_uppercase().replace('-', "_")
    )
}
