//! A Postgres that answers and does not help: read-only, or without a free connection.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::time::Instant;

/// How long it may take until nobody else has a connection.
const CROWDED_WITHIN: Duration = Duration::from_secs(20);
/// How often in a row a connection must be refused.
const REFUSALS: u32 = 3;

/// Makes every transaction read-only, those of connections that are there included, or writable again.
pub async fn read_only(url: &str, on: bool) -> Result<(), sqlx::Error> {
    let mut connection = connect(url).await?;
    connection
        .execute("SET default_transaction_read_only = off")
        .await?;
    connection
        .execute(if on {
            "ALTER SYSTEM SET default_transaction_read_only = on"
        } else {
            "ALTER SYSTEM RESET default_transaction_read_only"
        })
        .await?;
    connection.execute("SELECT pg_reload_conf()").await?;
    connection.close().await
}

/// All connections that a server allows. Dropping it gives them back.
#[derive(Debug)]
pub struct Crowd {
    held: Vec<PgConnection>,
}

impl Crowd {
    /// Takes every connection, those of this application away from it, until it can get none.
    pub async fn gather(url: &str, application: &str) -> Result<Self, sqlx::Error> {
        let mut held = vec![connect(url).await?];
        let end = Instant::now() + CROWDED_WITHIN;
        let mut refused = 0;
        while refused < REFUSALS {
            match connect(url).await {
                Ok(connection) => {
                    held.push(connection);
                    refused = 0;
                }
                Err(error) if Instant::now() > end => return Err(error),
                Err(sqlx::Error::Database(_)) => {
                    let ended: i64 = sqlx::query_scalar(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1",
                    )
                    .bind(application)
                    .fetch_one(&mut held[0])
                    .await?;
                    refused = if ended == 0 { refused + 1 } else { 0 };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { held })
    }

    /// How many connections it has.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether it has none, which is never the case.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    options.application_name("weir-crowd").connect().await
}
