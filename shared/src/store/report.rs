//! What the fleet did, hour by hour: events by service and state, and how long they took.

use serde::{Serialize, Serializer};
use sqlx::PgPool;

use super::history::{HistoryError, ends, moment};
use super::reads::Reads;
use crate::subject::Service;
use crate::telemetry::propagation::rfc3339;

/// Longest time that a report is over, in hours.
pub const MOST_HOURS: u16 = 168;
/// Most lines of a report.
const LINES: i64 = 20_000;

/// One service in one hour.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Line {
    /// The beginning of the hour, seconds since the Unix epoch. Told as RFC 3339.
    #[serde(serialize_with = "told")]
    pub hour: i64,
    /// Whose events.
    pub service: String,
    /// `done` or `dead`.
    pub state: String,
    /// How many.
    pub events: i64,
    /// Attempts that they took, all together.
    pub attempts: i64,
    /// Half of them took at most so long from delivery to outcome, milliseconds.
    pub p50_ms: f64,
    /// 95 of 100 took at most so long.
    pub p95_ms: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it like this")]
pub(crate) fn told<S: Serializer>(hour: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    rfc3339(moment(hour.saturating_mul(1_000_000))).serialize(serializer)
}

/// The last hours, the one that has begun included, the newest first; of these services, or of all when there are none.
///
/// # Errors
/// Postgres cannot be asked.
pub async fn report(reads: &Reads, hours: u16, services: &[Service]) -> Result<Vec<Line>, HistoryError> {
    const REPORT: &str = "
        SELECT extract(epoch FROM date_trunc('hour', finished_at, 'UTC'))::bigint AS hour, service, state,
            count(*) AS events, sum(attempts)::bigint AS attempts,
            percentile_disc(0.5) WITHIN GROUP (ORDER BY took_ms)::float8 AS p50_ms,
            percentile_disc(0.95) WITHIN GROUP (ORDER BY took_ms)::float8 AS p95_ms
        FROM unnest($1::text[]) AS b(branch) CROSS JOIN LATERAL (
            SELECT finished_at, service, state, attempts, took_ms FROM outcomes
            WHERE (service || ' ' || state) = b.branch
                AND finished_at >= date_trunc('hour', now(), 'UTC') - $2 * interval '1 hour'
        ) e
        GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 3 LIMIT $3";
    let before = i32::from(hours.clamp(1, MOST_HOURS)) - 1;
    let ask = async |pool: PgPool| {
        let branches = ends(&pool, services).await?;
        let lines = sqlx::query_as(REPORT).bind(branches).bind(before).bind(LINES);
        lines.fetch_all(&pool).await
    };
    Ok(reads.ask(ask).await?)
}
