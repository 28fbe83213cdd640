//! The worker's settings.

pub(crate) mod limits;
mod service;
mod upstreams;

use std::net::SocketAddr;
use std::time::Duration;

use shared::access::Share;
use shared::cache::Settings as Cache;
use shared::config::{Fleet, Reader};
use shared::store::settings::{Settings as Postgres, Size};
use shared::subject::Service;
use shared::wire;

use crate::follow::Book;
use crate::handler::{KINDS, Kind};
use crate::outbound::egress::{Allowed, Egress, SETTING};
use crate::store::Keep;

pub use service::ServiceConfig;

use service::prefix;

/// Prefixes of the settings that only workers read.
pub const OWN: [&str; 6] = [
    "WEIR_WORKER_",
    "WEIR_SERVICE_",
    "WEIR_LIMITS_",
    "WEIR_RULES",
    Postgres::OWN,
    Cache::OWN,
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
    /// `WEIR_CACHE_*`: how large the cache is, which all services of this worker share.
    pub cache: Cache,
    /// `WEIR_WORKER_ACCESS`: of which share of the keys look-ups of cached answers are noted, in Postgres.
    pub access: Share,
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
            access: reader.parsed("WEIR_WORKER_ACCESS", Share::ALL),
            keep: Keep {
                rows: keep,
                days: (partition.as_secs() / day.as_secs()) as u16,
            },
            listen: reader.parsed("WEIR_WORKER_LISTEN", listen),
            name: reader.text("WEIR_WORKER_NAME", &default_name()),
            redis_url: reader.url("WEIR_REDIS_URL", "redis://127.0.0.1:6379", &["redis", "rediss"]),
            postgres,
            cache: Cache::read(reader),
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

    /// The names of the services that this worker works for.
    pub fn own_services(&self) -> Vec<Service> {
        self.services
            .iter()
            .map(|service| service.service.clone())
            .collect()
    }
}

fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests;
