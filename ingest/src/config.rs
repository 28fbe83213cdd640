//! The settings of ingest, read from the environment and checked against each other.

pub mod source;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use shared::config::{Fleet, Reader};
use shared::wire;

pub use source::Source;

use crate::tokens::{Token, Tokens};

/// Settings of ingest.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the whole fleet.
    pub fleet: Fleet,
    /// `WEIR_INGEST_LISTEN`.
    pub listen: SocketAddr,
    /// What one process takes on at once.
    pub bounds: Bounds,
    /// `WEIR_INGEST_PATIENCE`: how long an event is tried again before its sender gets a 503. NATS elects a new
    /// leader within about 8 s.
    pub patience: Duration,
    /// `WEIR_INGEST_DRAIN_DELAY`: how long requests are still taken after SIGTERM, while readiness says no.
    pub drain_delay: Duration,
    /// `WEIR_TOKENS`.
    pub tokens: Tokens,
    /// `WEIR_SOURCES` and `WEIR_SOURCE_*`.
    pub sources: Vec<Source>,
}

/// What one process takes on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// `WEIR_INGEST_MAX_BODY`, in bytes. GitHub sends up to 25 MB.
    pub max_body: usize,
    /// `WEIR_INGEST_MAX_BUFFERED`, in bytes: bodies held at once. While it is encoded, an event takes up to four
    /// times its body.
    pub max_buffered: usize,
    /// `WEIR_INGEST_MAX_CONNECTIONS`.
    pub max_connections: usize,
    /// `WEIR_INGEST_MAX_IN_FLIGHT`: events that wait for NATS at once.
    pub max_in_flight: usize,
    /// `WEIR_INGEST_READ_TIMEOUT`: how long a body may take to arrive.
    pub read_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_body: 25 << 20,
            max_buffered: 256 << 20,
            max_connections: 8192,
            max_in_flight: 2048,
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// Largest body that still fits an event of [`wire::MAX_BYTES`] with its envelope.
const LARGEST_BODY: u64 = (wire::MAX_BYTES - (1 << 20)) as u64;

impl Config {
    /// Prefixes of the settings read here.
    pub const OWN: [&'static str; 3] = ["WEIR_INGEST_", "WEIR_SOURCE", "WEIR_TOKENS"];

    /// Reads all settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let second = Duration::from_secs(1);
        let fleet = Fleet::read(reader);
        let listen = reader.parsed(
            "WEIR_INGEST_LISTEN",
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
        );
        let bounds = bounds(reader);
        let patience = reader.duration("WEIR_INGEST_PATIENCE", second * 10, second / 10..=second * 300);
        let drain_delay = reader.duration("WEIR_INGEST_DRAIN_DELAY", second, Duration::ZERO..=second * 600);
        if drain_delay >= fleet.shutdown_deadline {
            let what =
                "must be shorter than WEIR_SHUTDOWN_DEADLINE, or nothing is left for what is in flight";
            reader.problem("WEIR_INGEST_DRAIN_DELAY", what);
        }
        let shown = |tokens: &Tokens| {
            tokens
                .iter()
                .map(|t| format!("{t:?}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        let tokens = reader.with("WEIR_TOKENS", Tokens::default(), Tokens::read, shown);
        for service in tokens.iter().flat_map(Token::services) {
            if !fleet.services.contains(service) {
                reader.problem(
                    "WEIR_TOKENS",
                    format!("names service {service}, which is not in WEIR_SERVICES"),
                );
            }
        }
        let sources = source::read(reader, &fleet);
        Self {
            fleet,
            listen,
            bounds,
            patience,
            drain_delay,
            tokens,
            sources,
        }
    }
}

fn bounds(reader: &mut Reader<'_>) -> Bounds {
    let Bounds {
        max_body,
        max_buffered,
        max_connections,
        max_in_flight,
        read_timeout,
    } = Bounds::default();
    let second = Duration::from_secs(1);
    let bounds = Bounds {
        max_body: reader.bytes("WEIR_INGEST_MAX_BODY", max_body as u64, 1024..=LARGEST_BODY) as usize,
        max_buffered: reader.bytes("WEIR_INGEST_MAX_BUFFERED", max_buffered as u64, 1 << 20..=1 << 40)
            as usize,
        max_connections: reader.number(
            "WEIR_INGEST_MAX_CONNECTIONS",
            max_connections as u64,
            1..=1_000_000,
        ) as usize,
        max_in_flight: reader.number("WEIR_INGEST_MAX_IN_FLIGHT", max_in_flight as u64, 1..=1_000_000)
            as usize,
        read_timeout: reader.duration(
            "WEIR_INGEST_READ_TIMEOUT",
            read_timeout,
            second / 10..=second * 600,
        ),
    };
    if bounds.max_buffered < bounds.max_body {
        reader.problem(
            "WEIR_INGEST_MAX_BUFFERED",
            "must be at least WEIR_INGEST_MAX_BODY, or no such body fits",
        );
    }
    bounds
}

/// The settings as `--help` lists them.
pub const HELP: &str = "\
Settings come from the environment. NAME_FILE instead of NAME reads the value from that file.

Ingest:
  WEIR_INGEST_LISTEN           address and port [0.0.0.0:8080]
  WEIR_INGEST_MAX_BODY         largest request body [25MB]
  WEIR_INGEST_MAX_BUFFERED     bodies held at once, together [256MB]
  WEIR_INGEST_MAX_CONNECTIONS  connections at once [8192]
  WEIR_INGEST_MAX_IN_FLIGHT    events that wait for NATS at once [2048]
  WEIR_INGEST_READ_TIMEOUT     time for a body to arrive [30s]
  WEIR_INGEST_PATIENCE         how long an event is tried again before a 503 [10s]
  WEIR_INGEST_DRAIN_DELAY      requests are still taken so long after SIGTERM [1s]
  WEIR_TOKENS                  who may publish events: name:sha256hex:service+service or name:sha256hex:*,
                               separated by commas; sha256hex is the SHA-256 of the token [nobody]

Webhooks:
  WEIR_SOURCES                 names of the sources, separated by commas; acme is POST /webhooks/acme [none]
  For each source, NAME being its name in capitals with _ for -:
  WEIR_SOURCE_NAME_KIND        github, gitlab, linear, slack, stripe, standard (Standard Webhooks, Svix) or hmac
  WEIR_SOURCE_NAME_SECRETS     active secrets, separated by commas; any of them will do (gitlab: whsec_ marks signing
                               tokens; standard: whsec_ secrets, whpk_ public keys)
  WEIR_SOURCE_NAME_SERVICE     service that gets its events [the source's name]
  WEIR_SOURCE_NAME_LIMIT       requests taken by each process, as `100 per second, burst 20` [no limit]
  What its events are, where it is not what docs/sources.md says of the kind: header:X-Foo, body:/json/pointer, a
  constant or none, several separated by |; the first that gives a usable value counts:
  WEIR_SOURCE_NAME_TYPE        what happened
  WEIR_SOURCE_NAME_ID          the delivery's id, by which it is kept once; none is the body's SHA-256
  WEIR_SOURCE_NAME_TENANT      whose it is
  WEIR_SOURCE_NAME_KEY         what it belongs to
  WEIR_SOURCE_NAME_PRIORITY    1 to 10, 10 the most urgent [5]
  For a source of kind hmac (HMAC-SHA256):
  WEIR_SOURCE_NAME_HEADER      header with the signature
  WEIR_SOURCE_NAME_ENCODING    hex or base64 [hex]
  WEIR_SOURCE_NAME_PREFIX      what stands before the signature, for example sha256= [nothing]
  WEIR_SOURCE_NAME_SIGNED      what is signed, of {body}, {timestamp}, {id} and other text [{body}]
  WEIR_SOURCE_NAME_TIMESTAMP_HEADER  header with the signed time, seconds since 1970 [none]
  WEIR_SOURCE_NAME_TOLERANCE   how far that time may be from now [5m]
  WEIR_SOURCE_NAME_ID_HEADER   header with the delivery's id [SHA-256 of the body]
  WEIR_SOURCE_NAME_TYPE_HEADER header that says what happened [always `webhook`]

Fleet:
  WEIR_NATS_URL                servers, separated by commas, also user:password@ or token@ [nats://127.0.0.1:4222]
  WEIR_NATS_CREDENTIALS        contents of a .creds file [none]
  SSL_CERT_FILE                authorities that TLS connections trust, PEM, instead of the machine's
  WEIR_SERVICES                services, one stream each [github,slack]
  WEIR_STREAM_REPLICAS         copies of each message: 1, 3 or 5 [1]
  WEIR_STREAM_MAX_MESSAGES     events that may wait for a service [10000000]
  WEIR_STREAM_MAX_BYTES        bytes that may wait for a service [1GB]
  WEIR_STREAM_DEDUP_WINDOW     how long NATS remembers event ids [2m]
  WEIR_STREAM_ACK_WAIT         silence after which a message goes to another worker [30s]
  WEIR_STREAM_MAX_DELIVER      deliveries after which a message is buried [20]
  WEIR_DEAD_MAX_AGE            how long dead letters are kept [30d]
  WEIR_CLAIMS_MAX_BYTES        bytes of events too large for a message, all services together [1GB]
  WEIR_LOG                     level, or targets with levels [info]
  WEIR_LOG_FORMAT              json or pretty [json]
  WEIR_SHUTDOWN_DEADLINE       from SIGTERM to exit [25s]
  OTEL_EXPORTER_OTLP_ENDPOINT  where traces go; the other OTEL_* variables work too [nowhere]

Exit codes: 0 stopped as asked, 1 failed, 64 wrong settings.";

#[cfg(test)]
mod tests;
