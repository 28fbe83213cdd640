//! What the caches of answers are worth, hour by hour.

use serde::Serialize;
use sqlx::PgPool;

use super::{Access, Found};
use crate::store::history::HistoryError;
use crate::store::reads::Reads;
use crate::store::report::told;
use crate::subject::Service;

/// Most hours that are asked for at once: all that are kept.
pub const MOST_HOURS: u16 = 360;
/// A fetch that is said to have taken longer counts as this long, in ms.
const LONGEST_FETCH_MS: u32 = 120_000;
const HOUR_MS: u64 = 3_600_000;

/// The sums of one hour as a worker adds them up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hour {
    /// When it began, ms since the epoch.
    pub(super) start_ms: u64,
    /// In the order of [`Found::ALL`].
    pub(super) found: [i64; Found::ALL.len()],
    pub(super) refreshed: i64,
    pub(super) fetched: i64,
    pub(super) fetched_ms: i64,
}

impl Hour {
    /// The sums of accesses that are in order of time.
    pub(super) fn sums(accesses: &[Access]) -> Vec<Self> {
        let mut hours: Vec<Self> = Vec::new();
        for access in accesses {
            let start_ms = access.at_ms - access.at_ms % HOUR_MS;
            if hours.last().is_none_or(|hour| hour.start_ms != start_ms) {
                hours.push(Self {
                    start_ms,
                    ..Self::default()
                });
            }
            if let Some(hour) = hours.last_mut() {
                hour.add(access);
            }
        }
        hours
    }

    fn add(&mut self, access: &Access) {
        self.found[access.found as usize] += 1;
        match (access.found, access.fetch_ms) {
            (_, None) | (Found::Unasked, _) => {}
            (Found::Nowhere, Some(ms)) => {
                self.fetched += 1;
                self.fetched_ms += i64::from(ms.min(LONGEST_FETCH_MS));
            }
            (Found::Memory | Found::Redis | Found::Postgres, Some(_)) => self.refreshed += 1,
        }
    }
}

/// What a service's cache did in one hour. Where not all keys are noted, the figures of those that are stand for all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sums {
    /// Look-ups.
    pub lookups: f64,
    /// Of them found in the worker's memory.
    pub memory: f64,
    /// In Redis.
    pub redis: f64,
    /// In Postgres.
    pub postgres: f64,
    /// Nowhere.
    pub missed: f64,
    /// Fetches that nobody asked for.
    pub unasked: f64,
    /// The part of the look-ups that found something, 0 to 1; `None` without look-ups.
    pub hit_share: Option<f64>,
    /// Calls not made: hits, less those behind which a call was made all the same, less fetches that nobody asked for. Below
    /// zero when the cache cost calls.
    pub calls_saved: f64,
    /// How long a miss had to wait for its fetch, on average, ms; `None` where there was none.
    pub fetch_ms: Option<f64>,
    /// Waiting saved, in seconds: hits, each of which would have waited so long. `None` where nobody knows how long.
    pub saved_s: Option<f64>,
}

/// A service's hour.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The service.
    pub service: String,
    /// When the hour began, seconds since the Unix epoch. Told as RFC 3339.
    #[serde(serialize_with = "told")]
    pub hour: i64,
    /// The smallest share of the keys that a worker noted, 0 to 1: the smaller, the less exact.
    pub share: f64,
    /// The figures.
    #[serde(flatten)]
    pub sums: Sums,
}

/// Columns of sums as they are read: service, hour, share, then nine sums.
type Row = (String, i64, f64, Vec<f64>);

/// What the caches of these services, or of all, did in the last hours: at most [`MOST_HOURS`], the current one included; the
/// newest first.
///
/// # Errors
/// Postgres cannot be asked.
pub async fn worth(reads: &Reads, hours: u16, services: &[Service]) -> Result<Vec<Line>, HistoryError> {
    let names: Vec<&str> = services.iter().map(Service::as_str).collect();
    let hours = i32::from(hours.clamp(1, MOST_HOURS));
    let rows = reads.ask(async |pool| ask(&pool, hours, &names).await).await?;
    Ok(rows.into_iter().map(line).collect())
}

async fn ask(pool: &PgPool, hours: i32, services: &[&str]) -> Result<Vec<Row>, sqlx::Error> {
    const ASK: &str = "
        WITH scaled AS (SELECT *, 1e6::float8 / share AS factor FROM access_hours
            WHERE hour > now() - make_interval(hours => $1) AND share > 0 AND (cardinality($2) = 0 OR service = ANY($2)))
        SELECT service, extract(epoch FROM hour)::bigint, min(share) / 1e6::float8, ARRAY[sum(memory * factor),
            sum(redis * factor), sum(postgres * factor), sum(nowhere * factor), sum(unasked * factor), sum(refreshed * factor),
            sum(fetched * factor), sum(fetched_ms * factor)]
        FROM scaled GROUP BY service, hour ORDER BY hour DESC, service";
    sqlx::query_as(ASK)
        .bind(hours)
        .bind(services)
        .fetch_all(pool)
        .await
}

fn line((service, hour, share, sums): Row) -> Line {
    let sum = |n: usize| sums.get(n).copied().unwrap_or_default();
    let [memory, redis, postgres, missed, unasked] = [sum(0), sum(1), sum(2), sum(3), sum(4)];
    let (refreshed, fetched, fetched_ms) = (sum(5), sum(6), sum(7));
    let hits = memory + redis + postgres;
    let lookups = hits + missed;
    let fetch_ms = (fetched > 0.0).then(|| fetched_ms / fetched);
    Line {
        service,
        hour,
        share,
        sums: Sums {
            lookups,
            memory,
            redis,
            postgres,
            missed,
            unasked,
            hit_share: (lookups > 0.0).then(|| hits / lookups),
            calls_saved: hits - refreshed - unasked,
            fetch_ms,
            saved_s: fetch_ms.map(|ms| hits * ms / 1e3),
        },
    }
}
