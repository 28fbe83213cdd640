//! The scheduler's settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use shared::config::{Fleet, Reader};
use shared::failpoint;

/// What `--help` says about settings.
pub const HELP: &str = "\
Settings (environment; NAME_FILE reads the value from that file):
  WEIR_SCHEDULER_LISTEN     address of /metrics, /health and /api [0.0.0.0:8082]
  WEIR_SCHEDULER_INTERVAL   pause between two observations, 250ms to 1m [5s]
  WEIR_SCHEDULER_CLAIMS_GRACE  age from which bodies of large events are looked at, to remove
                            those that nobody refers to, and pause between looks, 10m to 12h [1h]
  WEIR_NATS_URL             [nats://127.0.0.1:4222]
  WEIR_NATS_CREDENTIALS     contents of a .creds file
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
}

impl Config {
    /// Prefixes of the settings read here.
    pub const OWN: [&'static str; 1] = ["WEIR_SCHEDULER_"];

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
