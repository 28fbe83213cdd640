//! The worker's settings.

pub(crate) mod limits;
mod upstreams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::backoff::Schedule;
use shared::breaker::Rule;
use shared::config::{Fleet, Reader};
use shared::store::settings::{Settings as Postgres, Size};
use shared::subject::Service;
use shared::wire;

use crate::effect::Policy as Unknown;
use crate::follow::Book;
use crate::handler::{KINDS, Kind, Make};
use crate::limits::Table;
use crate::outbound::egress::{Allowed, Egress, SETTING};
use crate::provider::Provider;
use crate::quota::away::Policy;
use crate::store::Keep;

/// Prefixes of the settings that only workers read.
pub const OWN: [&str; 5] = [
    "WEIR_WORKER_",
    "WEIR_SERVICE_",
    "WEIR_LIMITS_",
    "WEIR_RULES",
    Postgres::OWN,
];

/// Settings of a worker.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the whole fleet shares.
    pub fleet: Fleet,
    /// `WEIR_WORKER_LISTEN`: health and metrics.
    pub listen: SocketAddr,
    /// `WEIR_WORKER_NAME`: who acted, in the audit log and the server's list of connections.
    pub name: String,
    /// `WEIR_REDIS_URL`.
    pub redis_url: String,
    /// `WEIR_POSTGRES_*`; without a URL for `none`: nothing is recorded and duplicates later than the deduplication
    /// window are not found.
    pub postgres: Postgres,
    /// `WEIR_WORKER_POSTGRES_CONNECTIONS`: connections of this process, the least and the most.
    pub postgres_connections: Size,
    /// `WEIR_WORKER_INBOX`: for how long a delivery that comes again is recognised.
    pub inbox: Duration,
    /// `WEIR_WORKER_KEEP`: for how long outcomes and failures are kept. `WEIR_WORKER_PARTITION`: how long a partition of
    /// outcomes is, in whole days.
    pub keep: Keep,
    /// `WEIR_WORKER_BATCH`: most messages asked for at once.
    pub batch: usize,
    /// `WEIR_WORKER_MAX_DECODED`, in bytes: events above 64 KB held at once, all services together. The smallest is room
    /// for the largest event, compressed and decompressed.
    pub max_decoded: usize,
    /// `WEIR_WORKER_PRIVATE_HOSTS`: hosts and ranges of addresses that calls may go to, beside the services' own URLs and
    /// the open internet.
    pub private_hosts: Vec<Allowed>,
    /// `WEIR_WORKER_AHEAD`: how far ahead calls are booked; 0 for not at all.
    pub ahead: Duration,
    /// `WEIR_LIMITS_START`: whether buckets of a credential that Redis knows nothing of are full, as if nobody had called
    /// before, or empty.
    pub limits_full: bool,
    /// `WEIR_RULES` and `WEIR_RULES_HOPS`: which events follow from which.
    pub rules: Book,
    /// The services that this worker works for.
    pub services: Vec<ServiceConfig>,
}

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
    /// `_URL`: where the API is, or where to deliver; several in order of preference.
    pub urls: Vec<String>,
    /// `_BREAKER`: what takes one of them out of service; `None` for nothing.
    pub breaker: Option<Rule>,
    /// `_TOKEN`: the credential of an API.
    pub token: Option<String>,
    /// What only its handler reads.
    pub own: Arc<dyn Make>,
}

impl Config {
    /// Reads all of them, for the handlers that ship.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self::read_for(reader, KINDS)
    }

    /// Reads all of them, for these handlers.
    pub fn read_for(reader: &mut Reader<'_>, kinds: &[&'static Kind]) -> Self {
        let fleet = Fleet::read(reader);
        let all: Vec<_> = fleet.services.iter().map(Service::as_str).collect();
        let services = reader.list("WEIR_WORKER_SERVICES", &all.join(","), |name| {
            let known = fleet.services.iter().find(|service| service.as_str() == name);
            known.cloned().ok_or_else(|| "is not in WEIR_SERVICES".to_owned())
        });
        for other in fleet
            .services
            .iter()
            .filter(|service| !services.contains(service))
        {
            reader.foreign(prefix(other) + "_");
        }
        let listen = SocketAddr::from(([0, 0, 0, 0], 8081));
        let missing = "is missing: where results are kept (`none` to keep none)";
        let postgres = Postgres::read(reader, Some(missing));
        let recorded = postgres.url.is_some() || reader.has_problem("WEIR_POSTGRES_URL");
        let ahead = reader.duration(
            "WEIR_WORKER_AHEAD",
            Duration::from_millis(100),
            Duration::ZERO..=Duration::from_millis(500),
        );
        let limits_full = reader.with(
            "WEIR_LIMITS_START",
            false,
            |text| match text {
                "full" => Ok(true),
                "empty" => Ok(false),
                other => Err(format!("is {other:?}: must be empty or full")),
            },
            |full| if *full { "full" } else { "empty" }.into(),
        );
        let day = Duration::from_secs(86_400);
        let inbox = reader.duration("WEIR_WORKER_INBOX", day * 14, day / 24..=day * 3650);
        let keep = reader.duration("WEIR_WORKER_KEEP", day * 90, day..=day * 36_500);
        let partition = reader.duration("WEIR_WORKER_PARTITION", day * 7, day..=day * 31);
        if !partition.as_secs().is_multiple_of(day.as_secs()) {
            reader.problem("WEIR_WORKER_PARTITION", "is not whole days: write 1d or 7d");
        }
        if keep < inbox {
            reader.problem(
                "WEIR_WORKER_KEEP",
                "is shorter than WEIR_WORKER_INBOX: what is not kept is not recognised",
            );
        }
        Self {
            ahead,
            limits_full,
            rules: Book::read(reader, &fleet.services),
            inbox,
            keep: Keep {
                rows: keep,
                days: (partition.as_secs() / day.as_secs()) as u16,
            },
            listen: reader.parsed("WEIR_WORKER_LISTEN", listen),
            name: reader.text("WEIR_WORKER_NAME", &default_name()),
            redis_url: reader.url("WEIR_REDIS_URL", "redis://127.0.0.1:6379", &["redis", "rediss"]),
            postgres,
            postgres_connections: reader.parsed("WEIR_WORKER_POSTGRES_CONNECTIONS", Size::WRITE),
            private_hosts: reader.list(SETTING, "", |text| text.parse::<Allowed>().map_err(str::to_owned)),
            batch: reader.number("WEIR_WORKER_BATCH", 512, 1..=5_000) as usize,
            max_decoded: reader.bytes(
                "WEIR_WORKER_MAX_DECODED",
                256 << 20,
                2 * wire::MAX_BYTES as u64..=u64::from(u32::MAX) << 10,
            ) as usize,
            services: services
                .into_iter()
                .map(|service| ServiceConfig::read(reader, service, kinds, ahead, recorded))
                .collect(),
            fleet,
        }
    }

    /// Where the calls of a service may go.
    pub fn egress(&self, service: &ServiceConfig) -> Egress {
        let others = service.own.urls();
        let own = service.urls.iter().chain(&others).map(String::as_str);
        Egress::new(&self.private_hosts, own)
    }
}

impl Config {
    /// The names of the services that this worker works for.
    pub fn own_services(&self) -> Vec<Service> {
        self.services
            .iter()
            .map(|service| service.service.clone())
            .collect()
    }
}

impl ServiceConfig {
    fn read(
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
        Self {
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
        }
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
fn prefix(service: &Service) -> String {
    format!(
        "WEIR_SERVICE_{}",
        service.as_str().to_ascii_uppercase().replace('-', "_")
    )
}

fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::config::Problems;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, Problems> {
        let env: BTreeMap<_, _> = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let mut reader = Reader::new(&env);
        let config = Config::read(&mut reader);
        reader.finish(&OWN, config).map(|(config, _)| config)
    }

    #[test]
    fn defaults_are_those_of_the_providers() {
        let config = read(&[("WEIR_POSTGRES_URL", "postgres://u@h/db")]).unwrap();
        let github = &config.services[0];
        assert_eq!((github.service.as_str(), github.concurrency), ("github", 20));
        assert_eq!(
            github.limits["requests"].rule.to_string(),
            "5000 per hour, burst 100"
        );
        let slack = &config.services[1];
        assert_eq!(
            slack.limits["requests"].rule.to_string(),
            "100 per minute, burst 20"
        );
        assert_eq!(
            (slack.concurrency, slack.urls[0].as_str()),
            (10, "https://slack.com/api")
        );
    }

    #[test]
    fn what_is_not_recorded_cannot_be_once() {
        let none = ("WEIR_POSTGRES_URL", "none");
        let config = read(&[none]).unwrap();
        assert!(
            config
                .services
                .iter()
                .all(|service| service.unknown == Unknown::Retry)
        );
        let Problems(lines) = read(&[none, ("WEIR_SERVICE_GITHUB_UNKNOWN", "dead")]).unwrap_err();
        assert!(lines[0].contains("only retry is possible"), "{lines:?}");
    }

    #[test]
    fn every_wrong_setting_is_named_at_once() {
        let Problems(lines) = read(&[
            ("WEIR_SERVICES", "github,acme,http"),
            ("WEIR_SERVICE_GITHUB_LIMIT", "lots"),
            ("WEIR_SERVICE_GITHUB_LIMITS", "points: 900 per minute, burst 4"),
            ("WEIR_SERVICE_HTTP_LIMITS", "burst: 10 per second, burst 0"),
            ("WEIR_SERVICE_HTTP_LIMIT", "3 per 100ms"),
            ("WEIR_SERVICE_HTTP_REDIS_AWAY", "hope"),
            ("WEIR_SERVICE_HTTP_PROVIDER", "acme"),
            ("WEIR_SERVICE_HTTP_UNKNOWN", "perhaps"),
            ("WEIR_WORKER_KEEP", "7d"),
            ("WEIR_WORKER_PARTITION", "36h"),
            ("WEIR_WORKER_POSTGRES_CONNECTIONS", "20-60"),
            ("WEIR_LIMITS_START", "half"),
            ("WEIR_WORKER_PRIVATE_HOSTS", "10.0.0.0/8, http://inside"),
            ("WEIR_SERVICE_GITHUB_CONCURRENCY", "0"),
            ("WEIR_SERVICE_GITHUB_BREAKER", "half of them"),
            ("WEIR_SERVICE_GITHUB_URL", "https://a.example, b.example"),
            ("WEIR_SERVICE_GITHUB_RETRYS", "5s"),
            ("WEIR_SERVICE_HTTP_SECRET", "hunter2"),
            ("WEIR_POSTGRES_URL", "mysql://x"),
            ("WEIR_WORKER_SERVICES", "github,acme,http,jira,http"),
            ("WEIR_SERVICE_ACME_TOKEN", "hunter2\n"),
            ("WEIR_SERVICE_HTTP_TOKEN", "hunter2\r\nx: y"),
        ])
        .unwrap_err();
        for (setting, says) in [
            ("WEIR_SERVICE_GITHUB_LIMIT", "5000 per hour"),
            ("WEIR_SERVICE_GITHUB_LIMITS", "lets no call of 5 through"),
            ("WEIR_SERVICE_HTTP_LIMITS", "burst: has a burst of 0"),
            (
                "WEIR_SERVICE_HTTP_LIMIT ",
                "too short a period: WEIR_WORKER_AHEAD is 100ms",
            ),
            ("WEIR_SERVICE_HTTP_REDIS_AWAY", "stop or share"),
            ("WEIR_SERVICE_HTTP_PROVIDER", "anthropic"),
            ("WEIR_SERVICE_HTTP_UNKNOWN", "look-up, dead or retry"),
            ("WEIR_WORKER_KEEP", "shorter than WEIR_WORKER_INBOX"),
            ("WEIR_WORKER_PARTITION", "is not whole days"),
            (
                "WEIR_WORKER_POSTGRES_CONNECTIONS",
                "such as 20 or 5-20, at most 50",
            ),
            ("WEIR_LIMITS_START", "empty or full"),
            ("WEIR_WORKER_PRIVATE_HOSTS", "\"http://inside\", which is no host"),
            ("WEIR_SERVICE_GITHUB_CONCURRENCY", "not within 1"),
            (
                "WEIR_SERVICE_GITHUB_RETRYS",
                "did you mean WEIR_SERVICE_GITHUB_RETRIES?",
            ),
            ("WEIR_SERVICE_ACME_HANDLER", "is missing"),
            ("WEIR_SERVICE_HTTP_URL", "is missing"),
            (
                "WEIR_SERVICE_GITHUB_BREAKER",
                "write off, 50% of 10 in 30s, open 15s",
            ),
            (
                "WEIR_SERVICE_GITHUB_URL",
                "\"b.example\" must begin with http:// or https://",
            ),
            ("WEIR_SERVICE_HTTP_SECRET", "whsec_"),
            ("WEIR_POSTGRES_URL", "postgres://"),
            ("WEIR_WORKER_SERVICES", "\"jira\""),
            ("WEIR_WORKER_SERVICES", "names http twice"),
            ("WEIR_SERVICE_HTTP_TOKEN", "control character (U+000D) at byte 7"),
        ] {
            assert!(
                lines.iter().any(|l| l.starts_with(setting) && l.contains(says)),
                "{setting}: {lines:#?}"
            );
        }
        assert!(!lines.concat().contains("hunter2"), "a secret is never shown");
    }
}
