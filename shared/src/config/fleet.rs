//! The settings that every service of the fleet reads, so that all of them see the same streams.

use std::io::Read;
use std::time::Duration;

use super::environment::open_regular;
use super::reader::Reader;
use super::value::{list, show_duration};
use crate::failpoint;
use crate::subject::Service;
use crate::telemetry::LogFormat;

/// Settings of the whole fleet.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// `WEIR_NATS_URL`: `nats://` or `tls://`, several separated by commas.
    pub nats_url: String,
    /// `WEIR_NATS_CREDENTIALS`: contents of a `.creds` file; give the path as `WEIR_NATS_CREDENTIALS_FILE`.
    pub nats_credentials: Option<String>,
    /// `WEIR_SERVICES`: the services of the fleet, one stream each.
    pub services: Vec<Service>,
    /// `WEIR_STREAM_*`.
    pub streams: Streams,
    /// `WEIR_LOG`: a filter as `tracing` reads it, for example `info,worker=debug`.
    pub log: String,
    /// `WEIR_LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `WEIR_SHUTDOWN_DEADLINE`: from SIGTERM to exit. Keep it below the grace period of whoever sends the SIGTERM.
    pub shutdown_deadline: Duration,
}

/// How the streams are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streams {
    /// `WEIR_STREAM_REPLICAS`: copies of each message, 1 to 5, odd.
    pub replicas: usize,
    /// `WEIR_STREAM_MAX_MESSAGES`: events that may wait in one service's stream; then publishers are refused.
    pub max_messages: i64,
    /// `WEIR_STREAM_MAX_BYTES`: bytes that may wait in one service's stream. The server sets them aside: all streams
    /// together must fit its `max_file_store`.
    pub max_bytes: i64,
    /// `WEIR_STREAM_DEDUP_WINDOW`: how long the server remembers message ids. Later duplicates are found by the worker.
    pub dedup_window: Duration,
    /// `WEIR_STREAM_ACK_WAIT`: after how long without a sign of life a message goes to another worker.
    pub ack_wait: Duration,
    /// `WEIR_STREAM_MAX_DELIVER`: deliveries without an outcome after which the backstop buries a message.
    pub max_deliver: i64,
    /// `WEIR_DEAD_MAX_AGE`: how long dead letters are kept.
    pub dead_max_age: Duration,
    /// `WEIR_CLAIMS_MAX_BYTES`: bytes of the bodies of large events, all services together; then publishers of large
    /// events are refused. The server sets them aside as it does [`max_bytes`](Self::max_bytes).
    pub claims_max_bytes: i64,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            replicas: 1,
            max_messages: 10_000_000,
            max_bytes: 1 << 30,
            dedup_window: Duration::from_secs(120),
            ack_wait: Duration::from_secs(30),
            max_deliver: 20,
            dead_max_age: Duration::from_secs(30 * 86_400),
            claims_max_bytes: 1 << 30,
        }
    }
}

impl Fleet {
    /// What a fleet has when nobody says otherwise.
    pub const DEFAULT_SERVICES: &'static str = "github,slack";

    /// Reads the fleet's settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let second = Duration::from_secs(1);
        let defaults = Streams::default();
        if failpoint::ENABLED {
            reader.with(failpoint::SETTING, String::new(), failpoint::check, String::clone);
        }
        let nats_url = reader.with(
            "WEIR_NATS_URL",
            "nats://127.0.0.1:4222".into(),
            nats_urls,
            |urls: &String| {
                list(urls)
                    .iter()
                    .map(|url| super::reader::without_password(url))
                    .collect::<Vec<_>>()
                    .join(",")
            },
        );
        // Every library that needs it reads it by itself, and some say nothing when it cannot be read.
        if let Some(path) = reader.raw_path("SSL_CERT_FILE")
            && let Err(error) = open_regular(&path).and_then(|mut file| file.read(&mut [0]))
        {
            let path = path.to_string_lossy();
            reader.problem(
                "SSL_CERT_FILE",
                format!("names {path:?}, which cannot be read: {error}"),
            );
        }
        let services = reader.list("WEIR_SERVICES", Self::DEFAULT_SERVICES, |name| {
            Service::new(name).map_err(|e| e.to_string())
        });
        if services.is_empty() && !reader.has_problem("WEIR_SERVICES") {
            reader.problem("WEIR_SERVICES", "names no service");
        }
        let replicas = reader.number("WEIR_STREAM_REPLICAS", 1, 1..=5);
        if replicas.is_multiple_of(2) {
            reader.problem(
                "WEIR_STREAM_REPLICAS",
                format!("is {replicas}: must be 1, 3 or 5"),
            );
        }
        let mut most = |name: &str, default: i64, smallest: u64, bytes: bool| {
            let bounds = smallest..=i64::MAX as u64;
            let default = default as u64;
            (if bytes {
                reader.bytes(name, default, bounds)
            } else {
                reader.number(name, default, bounds)
            }) as i64
        };
        let streams = Streams {
            replicas: replicas as usize,
            max_messages: most("WEIR_STREAM_MAX_MESSAGES", defaults.max_messages, 1, false),
            max_bytes: most("WEIR_STREAM_MAX_BYTES", defaults.max_bytes, 1 << 20, true),
            // Room for the largest event, twice.
            claims_max_bytes: most("WEIR_CLAIMS_MAX_BYTES", defaults.claims_max_bytes, 64 << 20, true),
            max_deliver: most("WEIR_STREAM_MAX_DELIVER", defaults.max_deliver, 2, false),
            dedup_window: reader.duration(
                "WEIR_STREAM_DEDUP_WINDOW",
                defaults.dedup_window,
                second..=Duration::from_secs(86_400),
            ),
            ack_wait: reader.duration("WEIR_STREAM_ACK_WAIT", defaults.ack_wait, second..=second * 3600),
            dead_max_age: reader.duration(
                "WEIR_DEAD_MAX_AGE",
                defaults.dead_max_age,
                second * 60..=Duration::from_secs(10 * 365 * 86_400),
            ),
        };
        Self {
            nats_url,
            nats_credentials: reader.secret("WEIR_NATS_CREDENTIALS"),
            services,
            streams,
            log: reader.with(
                "WEIR_LOG",
                "info".into(),
                crate::telemetry::check_filter,
                String::clone,
            ),
            log_format: reader.parsed("WEIR_LOG_FORMAT", LogFormat::default()),
            shutdown_deadline: reader.duration("WEIR_SHUTDOWN_DEADLINE", second * 25, second..=second * 3600),
        }
    }

    /// Prefixes of the settings read here.
    pub const OWN: [&'static str; 7] = [
        "WEIR_NATS_",
        "WEIR_SERVICES",
        "WEIR_STREAM_",
        "WEIR_DEAD_",
        "WEIR_CLAIMS_",
        "WEIR_LOG",
        "WEIR_SHUTDOWN_",
    ];

    /// What a person sees of it in a start-up log line.
    pub fn summary(&self) -> String {
        let services: Vec<_> = self.services.iter().map(Service::as_str).collect();
        format!(
            "services {}, shutdown within {}",
            services.join(" "),
            show_duration(self.shutdown_deadline)
        )
    }
}

fn nats_urls(text: &str) -> Result<String, String> {
    let urls = list(text);
    let fits = |url: &String| ["nats://", "tls://"].iter().any(|s| url.starts_with(s));
    if !urls.is_empty() && urls.iter().all(fits) {
        Ok(urls.join(","))
    } else {
        Err("must be URLs that begin with nats:// or tls://, separated by commas".into())
    }
}
