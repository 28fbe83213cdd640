//! Pools of connections, made the same way by every process, and a look at each of them every so often.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::time::Instant;

use super::metrics::PoolMetrics;
use super::settings::{Settings, Size};

/// A pool that gives no connection within this time is unhealthy.
pub const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);
/// Longest pause between two looks at a pool that is unhealthy.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Shorter than any question that is worth it: a transaction that somebody left open keeps old rows and locks.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(60);

/// A pool to write over. Does not wait for the server.
///
/// # Errors
/// The URL is none.
pub fn write(url: &str, settings: &Settings, size: Size, application: &str) -> Result<PgPool, sqlx::Error> {
    let options = options(url, application, settings.write_timeout)?;
    // A prepared statement keeps the plan that was made while the tables were empty. A scan would be the worst of them, and
    // nothing that a worker asks is better answered by one.
    let options = options.options([("enable_seqscan", "off")]);
    Ok(pool(settings, size, settings.acquire_timeout).connect_lazy_with(options))
}

/// A pool to read over, whose transactions cannot write. Does not wait for the server, at most `acquire` for a connection.
///
/// # Errors
/// The URL is none.
pub fn read(
    url: &str,
    settings: &Settings,
    size: Size,
    acquire: Duration,
    application: &str,
) -> Result<PgPool, sqlx::Error> {
    let options = options(url, application, settings.read_timeout)?;
    // People ask now this, now that: a plan for what is asked costs less than one that fits nothing, and compiling it costs
    // more. What they ask has an index in the order of the answer; whatever else the planner might take reads all that there is
    // to show the first of it.
    let options = options.options([
        ("default_transaction_read_only", "on"),
        ("plan_cache_mode", "force_custom_plan"),
        ("jit", "off"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
    ]);
    Ok(pool(settings, size, acquire).connect_lazy_with(options))
}

fn options(url: &str, application: &str, statement: Duration) -> Result<PgConnectOptions, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    Ok(options.application_name(application).options([
        ("statement_timeout", statement.as_millis().to_string()),
        (
            "idle_in_transaction_session_timeout",
            IDLE_IN_TRANSACTION.as_millis().to_string(),
        ),
    ]))
}

fn pool(settings: &Settings, size: Size, acquire: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .min_connections(size.least)
        .max_connections(size.most)
        .acquire_timeout(acquire)
        .max_lifetime(settings.recycle)
        .test_before_acquire(true)
}

/// One look: a connection within [`ACQUIRE_WITHIN`], and an answer over it. How long that took.
///
/// # Errors
/// Why there is none.
pub async fn look(pool: &PgPool) -> Result<Duration, String> {
    let start = Instant::now();
    let ask = async {
        let mut connection = pool.acquire().await?;
        sqlx::query("SELECT 1").execute(&mut *connection).await
    };
    match tokio::time::timeout(ACQUIRE_WITHIN, ask).await {
        Ok(Ok(_)) => Ok(start.elapsed()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {} s", ACQUIRE_WITHIN.as_secs())),
    }
}

/// Looks at a pool every so often, twice as long after each look that failed.
///
/// # Errors
/// None: it goes on until it is dropped.
pub async fn watch(pool: PgPool, metrics: PoolMetrics, every: Duration) -> Result<(), Infallible> {
    let mut failures = 0;
    loop {
        let looked = look(&pool).await;
        metrics.looked(&looked);
        match &looked {
            Ok(_) if failures > 0 => {
                tracing::info!(pool = metrics.name(), "Postgres gives connections again");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(pool = metrics.name(), error, "Postgres gives no connection"),
        }
        failures = if looked.is_ok() { 0 } else { failures + 1 };
        tokio::time::sleep(pause(every, failures)).await;
    }
}

/// The pause after so many failures in a row.
pub(super) fn pause(every: Duration, failures: u32) -> Duration {
    let longer = every.saturating_mul(1 << failures.min(16));
    longer.min(LONGEST_PAUSE.max(every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_ten_minutes() {
        let every = Duration::from_secs(30);
        let pauses = [0, 1, 2, 3, 4, 5, 1_000].map(|failures| pause(every, failures).as_secs());
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(pause(Duration::from_secs(1_200), 3).as_secs(), 1_200);
    }
}
