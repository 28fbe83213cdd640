//! The scheduler's settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use shared::bearer::Tokens;
use shared::config::{Fleet, Reader};
use shared::failpoint;
use shared::store::settings::{Settings as Postgres, Size};
use shared::warm::Mode;

use crate::external;
use crate::external::certificate::Files;
use crate::signal::Thresholds;

/// What `--help` says about settings.
pub const HELP: &str = "\
Settings (environment; NAME_FILE reads the value from that file):
  WEIR_SCHEDULER_LISTEN     address of /metrics, /health and /api [0.0.0.0:8082]
  WEIR_SCHEDULER_INTERVAL   pause between two observations, 250ms to 1m [5s]
  WEIR_SCHEDULER_CLAIMS_GRACE  age from which bodies of large events are looked at, to remove
                            those that nobody refers to, and pause between looks, 10m to 12h [1h]
  WEIR_SCHEDULER_METRICS_LISTEN  address of Kubernetes' external metrics API, TLS; off unless set
  WEIR_SCHEDULER_TLS_CERT_FILE, _KEY_FILE  its certificate and key, PEM; read again when they change
  WEIR_SCHEDULER_KEDA_LISTEN  address at which KEDA's external scaler asks, gRPC; off unless set
  WEIR_SCHEDULER_DRAIN      time in which a backlog is to be gone, 1s to 1h: shorter asks for
                            more workers [1m]
  WEIR_SCHEDULER_SCALE_UP, _DOWN  load in percent from which, and down to which, /api/scaling
                            names another count of workers [80], [30]
  WEIR_SCHEDULER_SCALE_MIN, _MAX  bounds of that count [2], [10]
  WEIR_SCHEDULER_SCALE_EVERY, _COOLDOWN  pause between two decisions [1m], and after a change until
                            it may be lowered [5m]
  WEIR_POSTGRES_URL         where events are kept: /api/events and /api/report answer from it; off unless
                            set. WEIR_POSTGRES_READ_URL: a streaming replica that they ask instead as
                            long as it is at most WEIR_POSTGRES_LAG [10s] behind
  WEIR_POSTGRES_READ_TIMEOUT, _ACQUIRE_TIMEOUT, _RECYCLE, _HEALTH  longest question [30s], longest wait
                            for a connection [30s], its age [1h], pause between looks at a pool [30s]
  WEIR_POSTGRES_QUERY_CACHE for how long a report is kept, 0s for not at all [5m]
  WEIR_SCHEDULER_POSTGRES_CONNECTIONS  least and most, at most 50 [10-50]
  WEIR_SCHEDULER_TOKENS     who may ask for events, as WEIR_TOKENS of ingest:
                            name:sha256hex:service+service or name:sha256hex:*; nobody unless set
  WEIR_WARM                 off, shadow or on: whether what will be asked for is fetched ahead into caches, for
                            which WEIR_POSTGRES_URL must be set; shadow notes and judges it only [shadow]
  WEIR_NATS_URL             several by commas, also user:password@ or token@ [nats://127.0.0.1:4222]
  WEIR_NATS_CREDENTIALS     contents of a .creds file
  SSL_CERT_FILE             authorities that TLS connections trust, PEM, instead of the machine's
  WEIR_SERVICES             services of the fleet, separated by commas
  WEIR_STREAM_*             how streams are kept; the same for the whole fleet
  WEIR_LOG, WEIR_LOG_FORMAT [info], [json] or pretty
  WEIR_SHUTDOWN_DEADLINE    from SIGTERM to exit [25s]
  OTEL_*                    where traces go
--print-config shows all of them with the values in effect.";

/// Everything the scheduler can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the whole fleet shares.
    pub fleet: Fleet,
    /// `WEIR_SCHEDULER_LISTEN`.
    pub listen: SocketAddr,
    /// `WEIR_SCHEDULER_INTERVAL`: pause between two observations. An observation three times as old is stale.
    pub interval: Duration,
    /// `WEIR_SCHEDULER_CLAIMS_GRACE`: age from which bodies of large events are looked at, and pause between two looks.
    /// At least twice the longest `WEIR_INGEST_PATIENCE`, because ingest keeps the body before it publishes; at most half
    /// of [`MOVED_MAX_AGE`](shared::topology::MOVED_MAX_AGE).
    pub claims_grace: Duration,
    /// `WEIR_SCHEDULER_DRAIN` and `WEIR_SCHEDULER_SCALE_*`.
    pub scaling: Scaling,
    /// `WEIR_SCHEDULER_METRICS_LISTEN` and what belongs to it; `None` where the external metrics API is not served.
    pub external: Option<external::Settings>,
    /// `WEIR_SCHEDULER_KEDA_LISTEN`: where KEDA asks; `None` for nowhere.
    pub keda_listen: Option<SocketAddr>,
    /// What `/api/events` and `/api/report` answer from, and whom.
    pub history: History,
    /// `WEIR_WARM`: whether caches are warmed.
    pub warm: Mode,
}

/// Where the past is and who may ask for it.
#[derive(Debug, Clone)]
pub struct History {
    /// `WEIR_POSTGRES_*`; without a URL nobody is answered.
    pub postgres: Postgres,
    /// `WEIR_SCHEDULER_POSTGRES_CONNECTIONS`: connections of this process, the least and the most.
    pub connections: Size,
    /// `WEIR_SCHEDULER_TOKENS`: who may ask, about which services. Without any nobody may.
    pub tokens: Tokens,
}

impl Default for History {
    fn default() -> Self {
        Self {
            postgres: Postgres::default(),
            connections: Size::READ,
            tokens: Tokens::default(),
        }
    }
}

impl History {
    fn read(reader: &mut Reader<'_>) -> Self {
        let shown = |tokens: &Tokens| {
            let tokens: Vec<_> = tokens.iter().map(|token| format!("{token:?}")).collect();
            tokens.join(",")
        };
        Self {
            postgres: Postgres::read(reader, None),
            connections: reader.parsed("WEIR_SCHEDULER_POSTGRES_CONNECTIONS", Size::READ),
            tokens: reader.with("WEIR_SCHEDULER_TOKENS", Tokens::default(), Tokens::read, shown),
        }
    }
}

/// How backlog and load become counts of workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// `WEIR_SCHEDULER_DRAIN`: the time in which a backlog is to be gone. Shorter asks for more workers.
    pub drain: Duration,
    /// `WEIR_SCHEDULER_SCALE_*`: when the count that `/api/scaling` names is changed.
    pub thresholds: Thresholds,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            drain: Duration::from_mins(1),
            thresholds: Thresholds::default(),
        }
    }
}

impl Scaling {
    fn read(reader: &mut Reader<'_>) -> Self {
        let (second, default) = (Duration::from_secs(1), Self::default());
        let mut percent = |name: &str, default: f64| {
            let default = (default * 100.0).round() as u64;
            let parse = |text: &str| {
                let number = text.strip_suffix('%').unwrap_or(text).trim_end();
                let percent = number.parse::<u64>().ok();
                percent
                    .filter(|percent| (1..=1_000).contains(percent))
                    .ok_or_else(|| format!("{text:?} is not within 1 and 1000 percent"))
            };
            reader.with(name, default, parse, u64::to_string) as f64 / 100.0
        };
        let up = percent("WEIR_SCHEDULER_SCALE_UP", default.thresholds.up);
        let down = percent("WEIR_SCHEDULER_SCALE_DOWN", default.thresholds.down);
        if down >= up {
            reader.problem(
                "WEIR_SCHEDULER_SCALE_DOWN",
                "is not below WEIR_SCHEDULER_SCALE_UP: the count would never rest",
            );
        }
        let mut workers = |name: &str, default: u32| reader.number(name, default.into(), 1..=10_000) as u32;
        let least = workers("WEIR_SCHEDULER_SCALE_MIN", default.thresholds.least);
        let most = workers("WEIR_SCHEDULER_SCALE_MAX", default.thresholds.most);
        if least > most {
            reader.problem(
                "WEIR_SCHEDULER_SCALE_MIN",
                "is more than WEIR_SCHEDULER_SCALE_MAX",
            );
        }
        Self {
            drain: reader.duration("WEIR_SCHEDULER_DRAIN", default.drain, second..=second * 3600),
            thresholds: Thresholds {
                up,
                down,
                least,
                most,
                cooldown: reader.duration(
                    "WEIR_SCHEDULER_SCALE_COOLDOWN",
                    default.thresholds.cooldown,
                    Duration::ZERO..=second * 86_400,
                ),
                every: reader.duration(
                    "WEIR_SCHEDULER_SCALE_EVERY",
                    default.thresholds.every,
                    second..=second * 3600,
                ),
            },
        }
    }
}

impl Config {
    /// Prefixes of the settings read here.
    pub const OWN: [&'static str; 3] = ["WEIR_SCHEDULER_", "WEIR_WARM", Postgres::OWN];

    /// Looks at the files that the settings name, where the process is to run: what is wrong with them is wrong with the
    /// settings.
    pub fn check_files(&self, reader: &mut Reader<'_>) {
        let Some(external) = &self.external else { return };
        if external.files.certificate == external.files.key {
            reader.problem(KEY, format!("names the file that {CERTIFICATE} names"));
            return;
        }
        for (path, bad) in external.files.check() {
            let certificate = path == external.files.certificate;
            reader.problem(if certificate { CERTIFICATE } else { KEY }, bad);
        }
    }

    /// Reads the settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let shortest = Duration::from_millis(250);
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8082));
        // Tests do not wait for ten minutes.
        let shortest_grace = if failpoint::ENABLED {
            Duration::from_secs(1)
        } else {
            Duration::from_mins(10)
        };
        Self {
            claims_grace: reader.duration(
                "WEIR_SCHEDULER_CLAIMS_GRACE",
                Duration::from_hours(1),
                shortest_grace..=Duration::from_hours(12),
            ),
            scaling: Scaling::read(reader),
            external: external(reader),
            keda_listen: reader.with(
                "WEIR_SCHEDULER_KEDA_LISTEN",
                None,
                |text| {
                    text.parse()
                        .map(Some)
                        .map_err(|_| "must be an address such as 0.0.0.0:8083".to_owned())
                },
                |listen| listen.map_or_else(String::new, |listen: SocketAddr| listen.to_string()),
            ),
            history: History::read(reader),
            warm: reader.parsed("WEIR_WARM", Mode::default()),
            fleet: Fleet::read(reader),
            listen: reader.parsed("WEIR_SCHEDULER_LISTEN", listen),
            interval: reader.duration(
                "WEIR_SCHEDULER_INTERVAL",
                Duration::from_secs(5),
                shortest..=Duration::from_mins(1),
            ),
        }
    }
}

const LISTEN: &str = "WEIR_SCHEDULER_METRICS_LISTEN";
const CERTIFICATE: &str = "WEIR_SCHEDULER_TLS_CERT_FILE";
const KEY: &str = "WEIR_SCHEDULER_TLS_KEY_FILE";

fn external(reader: &mut Reader<'_>) -> Option<external::Settings> {
    let listen = reader.with(
        LISTEN,
        None,
        |text| {
            text.parse()
                .map(Some)
                .map_err(|_| "must be an address such as 0.0.0.0:8443".to_owned())
        },
        |listen| listen.map_or_else(String::new, |listen: SocketAddr| listen.to_string()),
    );
    let [certificate, key] = [CERTIFICATE, KEY].map(|name| {
        let path = reader.optional(name);
        match (&path, listen) {
            _ if reader.has_problem(name) || reader.has_problem(LISTEN) => {}
            (None, Some(_)) => reader.problem(name, format!("is missing: {LISTEN} is served over TLS only")),
            (Some(_), None) => reader.problem(name, format!("is without effect: {LISTEN} is not set")),
            _ => {}
        }
        path
    });
    Some(external::Settings {
        listen: listen?,
        files: Files {
            certificate: certificate?.into(),
            key: key?.into(),
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use std::collections::BTreeMap;

    use shared::config::Problems;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, Problems> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: BTreeMap<_, _> = pairs.collect();
        let mut reader = Reader::new(&environment);
        let config = Config::read(&mut reader);
        reader.finish(&Config::OWN, config).map(|(config, _)| config)
    }

    #[test]
    fn counts_are_told_as_the_settings_say() {
        let config = read(&[]).unwrap();
        assert_eq!((config.scaling, config.keda_listen), (Scaling::default(), None));
        let config = read(&[
            ("WEIR_SCHEDULER_DRAIN", "5m"),
            ("WEIR_SCHEDULER_SCALE_UP", "90%"),
            ("WEIR_SCHEDULER_SCALE_MIN", "11"),
            ("WEIR_SCHEDULER_SCALE_MAX", "12"),
            ("WEIR_SCHEDULER_KEDA_LISTEN", "127.0.0.1:8083"),
        ])
        .unwrap();
        let thresholds = config.scaling.thresholds;
        assert_eq!((thresholds.up, thresholds.least, thresholds.most), (0.9, 11, 12));
        assert_eq!(config.scaling.drain, Duration::from_mins(5));
        assert_eq!(config.keda_listen.unwrap().port(), 8083);
    }

    #[test]
    fn a_count_that_could_never_rest_or_be_is_refused() {
        for (pairs, says) in [
            (
                &[("WEIR_SCHEDULER_SCALE_DOWN", "80")][..],
                "SCALE_DOWN is not below",
            ),
            (&[("WEIR_SCHEDULER_SCALE_MIN", "11")], "SCALE_MIN is more than"),
            (&[("WEIR_SCHEDULER_SCALE_UP", "0")], "not within 1"),
            (&[("WEIR_SCHEDULER_SCALE_UP", "80 %%")], "not within 1"),
            (&[("WEIR_SCHEDULER_DRAIN", "0s")], "not within 1s"),
            (&[("WEIR_SCHEDULER_KEDA_LISTEN", "8083")], "such as 0.0.0.0:8083"),
        ] {
            let Problems(lines) = read(pairs).unwrap_err();
            assert!(lines.iter().any(|line| line.contains(says)), "{lines:?}");
        }
    }
}
