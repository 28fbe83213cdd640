//! What is kept for how long: outcomes and failures in partitions by time, and notes that nobody asks for any more. Every worker
//! looks after them; one at a time does.

use std::convert::Infallible;
use std::time::Duration;

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
    pub fn tables(self) -> [Table; 2] {
        let table = |name, time, days| Table {
            name,
            time,
            days,
            keep: self.rows,
            append_only: true,
        };
        [
            table("outcomes", "finished_at", self.days),
            table("failures", "at", 1),
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
    Ok(())
}
