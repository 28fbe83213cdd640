//! Brings the tables to this version.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgPoolOptions;

/// How often a migration is tried that others kept from its table.
const TRIES: u32 = 30;
/// Pause between two tries, for those that it held up meanwhile.
const PAUSE: Duration = Duration::from_millis(500);

/// Brings the tables to this version. Safe from several processes at once, one of which does it while the others wait, and
/// while others write: a migration waits for a table for half a second at most and steps back then.
///
/// # Errors
/// Postgres is away, a table was never to be had within 30 tries, or the tables are of a later version.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    let mut tries = 1;
    loop {
        match once(pool).await {
            Err(error) if tries < TRIES && is_kept_out(&error) => {
                tracing::info!(%error, tries, "a migration stepped back for whoever has the table");
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

async fn once(pool: &PgPool) -> Result<(), MigrateError> {
    // Whoever waits for another to migrate waits as long as that takes.
    let options = pool.connect_options().as_ref().clone();
    let options = options.options([("statement_timeout", "0")]);
    // A connection of its own: should it fail halfway, its end is what gives the lock back.
    let one = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(pool.options().get_acquire_timeout())
        .connect_lazy_with(options);
    let done = sqlx::migrate!().run(&one).await;
    one.close().await;
    done
}

/// SQLSTATE `lock_not_available` and `deadlock_detected`.
fn is_kept_out(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}
