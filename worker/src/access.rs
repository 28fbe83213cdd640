//! The access log of a worker: where it notes look-ups of cached answers, and the task that writes them.

use prometheus_client::registry::Registry;
use shared::access::write::{EVERY, Writer};
use shared::access::{AccessMetrics, Notes};
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::task::TaskTracker;

use crate::config::Config;

/// Where a worker notes; nowhere without Postgres.
pub fn notes(config: &Config, registry: &mut Registry) -> Notes {
    if config.postgres.url.is_none() {
        return Notes::off();
    }
    Notes::new(
        config.access,
        &config.own_services(),
        AccessMetrics::register(registry),
    )
}

/// Starts the task that writes what is noted, every five seconds, and a last time when there are no more events.
pub fn start(tasks: &TaskTracker, events: &TaskTracker, database: PgPool, notes: &Notes, worker: &str) {
    let mut writer = Writer::new(database, notes.clone(), worker);
    let events = events.clone();
    tasks.spawn(async move {
        let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => writer.flush().await,
                () = events.wait() => break,
            }
        }
        writer.flush().await;
    });
}
