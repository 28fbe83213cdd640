//! What is kept for how long: outcomes, failures and accesses in partitions by time, and notes that nobody asks for any more. Every worker
//! looks after them; one at a time does.

use std::convert::Infallible;
use std::time::Duration;

use shared::access::KEPT;
use shared::access::fold::fold;
use shared::access::write::forget_old;
use shared::store::partitions::{self, Table};
use sqlx::PgPool;

/// For how long outcomes and failures are kept, and in what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// For how long.
    pub rows: Duration,
    /// How many days a partition of outcomes holds. Every partition within the inbox's time is looked into for each event.
    pub days: u16,
}

impl Keep {
    /// The tables in partitions.
    pub fn tables(self) -> [Table; 3] {
        let table = |name, time, days| Table {
            name,
            time,
            days,
            keep: self.rows,
            append_only: true,
        };
        // What people and warming ask of the past of caches, and no record of what was done.
        let accesses = Table {
            keep: KEPT,
            append_only: false,
            ..table("access_log", "flushed_at", 1)
        };
        [
            table("outcomes", "finished_at", self.days),
            table("failures", "at", 1),
            accesses,
        ]
    }
}

/// Looks after the partitions and notes, every hour.
pub async fn keep_up(pool: PgPool, keep: Keep) -> Result<(), Infallible> {
    loop {
        if let Err(error) = tend(&pool, keep).await {
            tracing::warn!(%error, "partitions were not looked after: the default one takes what has no other");
        }
        if let Err(error) = partitions::complete(&pool, &keep.tables()).await {
            tracing::warn!(%error, "indexes of older partitions are not complete yet");
        }
        if let Err(error) = fold(&pool).await {
            tracing::warn!(%error, "the access log stays in many rows for another hour");
        }
        tokio::time::sleep(partitions::EVERY).await;
    }
}

/// Makes the partitions of this and the coming days, and drops those that are wholly older than is kept, and old notes. Waits for
/// another that is at it.
///
/// # Errors
/// Postgres is away, or a table was not to be had.
pub async fn tend(pool: &PgPool, keep: Keep) -> Result<(), sqlx::Error> {
    partitions::tend(pool, &keep.tables()).await?;
    // Of calls that nobody will ask for any more.
    sqlx::query("DELETE FROM intents WHERE at < now() - $1 * interval '1 second'")
        .bind(keep.rows.as_secs_f64())
        .execute(pool)
        .await?;
    sqlx::query("DELETE FROM followed WHERE at < now() - $1 * interval '1 second'")
        .bind(keep.rows.as_secs_f64())
        .execute(pool)
        .await?;
    sqlx::query("DELETE FROM suspects WHERE at < now() - interval '1 day'")
        .execute(pool)
        .await?;
    forget_old(pool).await
}
