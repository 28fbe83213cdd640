//! Stage 10: results and failed attempts, which together are the audit log, in Postgres. Rows of many events go in one statement; an event is acked only
//! when its rows are durable.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shared::event::EventId;
use shared::subject::Service;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::task::TaskTracker;

use crate::batch::Batcher;
use crate::metrics::StoreMetrics;

/// Most rows of one commit.
pub const ROWS: usize = 100;
/// Most ids of one look-up.
const IDS: usize = 500;
/// Commits under way at once: one is written while the next gathers. More of them would only be smaller.
const COMMITS: usize = 2;
/// Look-ups under way at once.
const LOOKUPS: usize = 1;
/// Longest that one statement may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two tries while Postgres is away.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// What an event has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its effect is done.
    Done,
    /// It is a dead letter.
    Dead,
}

/// What is known of an event before it is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Its effect is recorded.
    Done,
    /// It is not.
    Open,
}

/// One attempt, and the event's end when it was the last one.
#[derive(Debug, Clone)]
pub struct Row {
    /// The event.
    pub event_id: EventId,
    /// Whose event.
    pub service: Service,
    /// Its end; `None` when another attempt follows.
    pub state: Option<State>,
    /// The class of a failure, `transient` or `permanent`; `None` for a success.
    pub failure: Option<&'static str>,
    /// Attempts so far.
    pub attempts: u32,
    /// One word.
    pub code: String,
    /// A sentence.
    pub detail: String,
    /// What the handler found worth keeping, JSON.
    pub result: Option<String>,
    /// From delivery to outcome.
    pub took: Duration,
    /// The trace.
    pub trace_id: String,
    /// When the event was first kept, milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// When the attempt ended, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who acted.
    pub worker: Arc<str>,
}

/// The store of one worker process; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    find: Batcher<EventId, Finding>,
    commit: Batcher<Row, bool>,
}

/// The connection pool; does not wait for the server.
pub fn connect(url: &str, connections: u32) -> Result<PgPool, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    // A prepared statement keeps the plan that was made while the tables were empty. The plan that hurt went over a
    // second B-tree, which is gone; a scan would be as bad, and nothing that a worker asks is better answered by one.
    let options = options
        .application_name("weir-worker")
        .options([("enable_seqscan", "off")]);
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .max_lifetime(Duration::from_secs(3600))
        .connect_lazy_with(options))
}

/// Brings the tables to this version; safe from several processes at once.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    sqlx::migrate!().run(pool).await
}

impl Store {
    /// A store on these connections for one service; its tasks end when the last clone is gone.
    pub fn start(tasks: &TaskTracker, pool: PgPool, service: &Service, metrics: StoreMetrics) -> Self {
        let (readers, service) = (pool.clone(), service.clone());
        let find = Batcher::start(tasks, IDS, LOOKUPS, move |ids| {
            find(readers.clone(), service.clone(), ids)
        });
        let commit = Batcher::start(tasks, ROWS, COMMITS, move |rows| {
            commit(pool.clone(), rows, metrics.clone())
        });
        Self { find, commit }
    }

    /// Whether the event is done. Waits while Postgres is away: nothing is begun that could not be recorded.
    pub async fn find(&self, id: EventId) -> Finding {
        self.find.ask(id).await.unwrap_or(Finding::Open)
    }

    /// Makes a row durable; waits while Postgres is away. `false` when the row itself is refused or the process ends.
    pub async fn commit(&self, row: Row) -> bool {
        self.commit.ask(row).await.unwrap_or(false)
    }
}

async fn find(pool: PgPool, service: Service, ids: Vec<EventId>) -> Vec<Finding> {
    const FIND: &str =
        "SELECT event_id FROM results WHERE service = $1 AND state = 'done' AND event_id = ANY($2)";
    let texts: Vec<&str> = ids.iter().map(EventId::as_str).collect();
    loop {
        let asked = sqlx::query_scalar::<_, String>(FIND)
            .bind(service.as_str())
            .bind(&texts);
        let found = bounded(asked.fetch_all(&pool)).await;
        match found {
            Ok(done) if done.is_empty() => return vec![Finding::Open; ids.len()],
            Ok(done) => {
                let done: std::collections::HashSet<String> = done.into_iter().collect();
                let finding = |id: &&str| {
                    if done.contains(*id) {
                        Finding::Done
                    } else {
                        Finding::Open
                    }
                };
                return texts.iter().map(finding).collect();
            }
            Err(error) => {
                tracing::warn!(%error, "results cannot be read: events wait");
                tokio::time::sleep(AWAY_PAUSE).await;
            }
        }
    }
}

async fn commit(pool: PgPool, rows: Vec<Row>, metrics: StoreMetrics) -> Vec<bool> {
    loop {
        let start = std::time::Instant::now();
        match bounded(insert(&pool, &rows)).await {
            Ok(()) => {
                metrics.rows.observe(rows.len() as f64);
                metrics.seconds.observe(start.elapsed().as_secs_f64());
                return vec![true; rows.len()];
            }
            Err(error) if is_about_a_row(&error) => {
                tracing::warn!(%error, rows = rows.len(), "a commit was refused: its rows go one by one");
                return one_by_one(&pool, rows).await;
            }
            Err(error) => {
                tracing::warn!(%error, "results cannot be written: events wait");
                tokio::time::sleep(AWAY_PAUSE).await;
            }
        }
    }
}

/// So that one bad row does not keep the others.
async fn one_by_one(pool: &PgPool, rows: Vec<Row>) -> Vec<bool> {
    let mut answers = Vec::with_capacity(rows.len());
    for mut row in rows {
        let kept = loop {
            match bounded(insert(pool, std::slice::from_ref(&row))).await {
                Ok(()) => break true,
                // The result is the one part whose content comes from outside unchecked.
                Err(error) if is_about_a_row(&error) && row.result.is_some() => row.result = None,
                Err(error) if is_about_a_row(&error) => {
                    tracing::error!(%error, id = %row.event_id, "a result was refused");
                    break false;
                }
                Err(error) => {
                    tracing::warn!(%error, "results cannot be written: events wait");
                    tokio::time::sleep(AWAY_PAUSE).await;
                }
            }
        };
        answers.push(kept);
    }
    answers
}

/// A connection that has died silently would keep its statement, and the events behind it, for many minutes.
async fn bounded<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let late = |_| {
        sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "no answer in time",
        ))
    };
    tokio::time::timeout(STATEMENT_TIMEOUT, statement)
        .await
        .map_err(late)?
}

/// SQLSTATE classes 22 (data exception) and 23 (integrity constraint violation).
fn is_about_a_row(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

async fn insert(pool: &PgPool, rows: &[Row]) -> Result<(), sqlx::Error> {
    // One statement, so one transaction and one trip. An event that is done stays done; a dead one that was replayed
    // may still become done.
    const INSERT: &str = "
        WITH new AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[],
                $8::text[], $9::bigint[], $10::text[], $11::text[], $12::bigint[], $13::bigint[])
            AS t(event_id, service, state, failure, attempts, code, detail, result, took_ms, worker, trace_id,
                accepted_ms, at_ms)
        ), failed AS (
            INSERT INTO failures (event_id, service, attempt, class, code, detail, took_ms, worker, trace_id, at)
            SELECT event_id, service, attempts, failure, code, detail, took_ms, worker, trace_id,
                to_timestamp(at_ms / 1000.0)
            FROM new WHERE failure IS NOT NULL
        )
        INSERT INTO results (event_id, service, state, attempts, code, detail, result, took_ms, worker, trace_id,
            accepted_at, finished_at)
        SELECT DISTINCT ON (event_id, service) event_id, service, state, attempts, code, detail, result::json,
            took_ms, worker, trace_id, to_timestamp(accepted_ms / 1000.0), to_timestamp(at_ms / 1000.0)
        FROM new WHERE state IS NOT NULL ORDER BY event_id, service, state DESC
        ON CONFLICT (event_id, service) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
            code = excluded.code, detail = excluded.detail, result = excluded.result, took_ms = excluded.took_ms,
            worker = excluded.worker, trace_id = excluded.trace_id, finished_at = excluded.finished_at
        WHERE results.state <> 'done'";
    let column = |of: fn(&Row) -> &str| rows.iter().map(of).collect::<Vec<_>>();
    let state = |row: &Row| {
        row.state.map(|state| match state {
            State::Done => "done",
            State::Dead => "dead",
        })
    };
    sqlx::query(INSERT)
        .bind(column(|row| row.event_id.as_str()))
        .bind(column(|row| row.service.as_str()))
        .bind(rows.iter().map(state).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.failure).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| i32::try_from(row.attempts).unwrap_or(i32::MAX))
                .collect::<Vec<_>>(),
        )
        .bind(column(|row| &row.code))
        .bind(column(|row| &row.detail))
        .bind(rows.iter().map(|row| row.result.as_deref()).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.took.as_millis() as i64)
                .collect::<Vec<_>>(),
        )
        .bind(column(|row| &row.worker))
        .bind(column(|row| &row.trace_id))
        .bind(rows.iter().map(|row| row.accepted_ms as i64).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.at_ms as i64).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    Ok(())
}
