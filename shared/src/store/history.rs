//! What became of events: ends and failed attempts, the newest first, page by page.
//!
//! Rows are found over branches: one a service and state, or one a tenant, service and state. Each branch is read in the order of
//! an index from where the page begins, and what is left of the branches is put together; so a page costs the same however
//! many events there are, and whatever is asked for.

mod cursor;
mod filter;
mod sql;

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use sqlx::PgPool;

pub use cursor::{BadCursor, Place};
pub use filter::{Filter, State, instant};

use super::reads::Reads;
use crate::subject::Service;
use crate::telemetry::propagation::rfc3339;

/// Most rows of a page.
pub const MOST_ROWS: u16 = 500;
/// Rows of a page where nobody says how many.
pub const ROWS: u16 = 50;
/// Most branches of one question: a thousand services, each with events that are done and dead.
const BRANCHES: i64 = 2_000;
/// Most rows of one event, and most of its failed attempts.
const OF_ONE: i64 = 100;

/// An end or a failed attempt.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Entry {
    /// The event.
    pub event_id: String,
    /// Whose event.
    pub service: String,
    /// `done`, `dead` or `failed`.
    pub state: String,
    /// Attempts so far.
    pub attempts: i32,
    /// The class of a failed attempt: `transient`, `unknown` or `permanent`.
    pub class: Option<String>,
    /// One word.
    pub code: String,
    /// A sentence.
    pub detail: String,
    /// From delivery to outcome, milliseconds.
    pub took_ms: i64,
    /// Who acted.
    pub worker: String,
    /// The trace.
    pub trace_id: String,
    /// Whose it was, where the event said so.
    pub tenant: Option<String>,
    /// When the event was first kept, milliseconds since the Unix epoch; not known of a failed attempt. Told as RFC 3339.
    #[serde(rename = "accepted_at", serialize_with = "told_ms")]
    pub accepted_ms: Option<i64>,
    /// When the attempt ended, microseconds since the Unix epoch. Told as RFC 3339.
    #[serde(rename = "at", serialize_with = "told_us")]
    pub at_us: i64,
}

#[allow(clippy::ref_option, reason = "serde calls it like this")]
fn told_ms<S: Serializer>(at: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    let at = at.map(|ms| UNIX_EPOCH + Duration::from_millis(ms.max(0) as u64));
    at.map(rfc3339).serialize(serializer)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it like this")]
fn told_us<S: Serializer>(at: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    rfc3339(moment(*at)).serialize(serializer)
}

/// A moment that microseconds since the Unix epoch name.
pub fn moment(us: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(us.max(0) as u64)
}

impl Entry {
    /// Where it stands in the order of all.
    pub fn place(&self) -> Place {
        Place {
            at_us: self.at_us,
            service: self.service.clone(),
            event_id: self.event_id.clone(),
        }
    }
}

/// A page, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page {
    /// The newest first.
    pub events: Vec<Entry>,
    /// What to ask the next page with; `None` on the last one.
    pub next: Option<String>,
}

/// All that is known of one event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// Its ends, the newest first, one for each service that it went to and each time that it was a dead letter.
    pub ends: Vec<End>,
    /// Attempts that failed, the newest first.
    pub failed: Vec<Entry>,
    /// Whether there are more rows than these.
    pub more: bool,
}

/// An end with what was kept of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct End {
    /// The end.
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub entry: Entry,
    /// What the handler found worth keeping; left out where it is longer than 64 KiB.
    pub result: Option<serde_json::Value>,
    /// How long that is, in bytes.
    pub result_bytes: Option<i64>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The cursor is not of this question.
    #[error(transparent)]
    Cursor(#[from] BadCursor),
    /// The tables are not there.
    #[error("no worker has made the tables in Postgres yet")]
    NoTables,
    /// The question took longer than it may.
    #[error("the question took longer than WEIR_POSTGRES_READ_TIMEOUT: ask for a shorter time")]
    TooLong,
    /// Postgres cannot be asked.
    #[error("Postgres: {0}")]
    Postgres(sqlx::Error),
}

impl From<sqlx::Error> for HistoryError {
    fn from(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            // undefined_table, undefined_column
            Some("42P01" | "42703") => Self::NoTables,
            // query_canceled
            Some("57014") => Self::TooLong,
            _ => Self::Postgres(error),
        }
    }
}

/// A page of what the filter lets through, `rows` of them at most and 1 to [`MOST_ROWS`], from `cursor` on.
///
/// # Errors
/// The cursor is not one of this filter, or Postgres cannot be asked.
pub async fn page(
    reads: &Reads,
    filter: &Filter,
    cursor: Option<&str>,
    rows: u16,
) -> Result<Page, HistoryError> {
    let before = cursor.map(|cursor| Place::read(cursor, filter)).transpose()?;
    let rows = usize::from(rows.clamp(1, MOST_ROWS));
    let before = before.as_ref();
    let mut events = reads
        .ask(async |pool| older(&pool, filter, before, rows + 1).await)
        .await?;
    let next = (events.len() > rows).then(|| events.get(rows - 1)).flatten();
    let next = next.map(|last| last.place().text(filter));
    events.truncate(rows);
    Ok(Page { events, next })
}

/// The newest that the filter lets through before a place, at most so many.
async fn older(
    pool: &PgPool,
    filter: &Filter,
    before: Option<&Place>,
    rows: usize,
) -> Result<Vec<Entry>, sqlx::Error> {
    let mut all = Vec::new();
    for source in filter.sources() {
        let branches = sql::branches(pool, source, filter).await?;
        all.extend(sql::older(pool, source, filter, &branches, before, rows).await?);
    }
    // Of an attempt that ended its event there is the end alone: it comes first.
    all.sort_by(|one, other| order(other).cmp(&order(one)).then(one.state.cmp(&other.state)));
    all.dedup_by(|one, other| order(one) == order(other));
    all.truncate(rows);
    Ok(all)
}

/// The oldest that the filter lets through after a place, at most so many, the oldest first.
///
/// # Errors
/// Postgres cannot be asked.
pub async fn newer(
    reads: &Reads,
    filter: &Filter,
    after: &Place,
    rows: usize,
) -> Result<Vec<Entry>, HistoryError> {
    let ask = async |pool: PgPool| {
        let mut all = Vec::new();
        for source in filter.sources() {
            let branches = sql::branches(&pool, source, filter).await?;
            all.extend(sql::newer(&pool, source, filter, &branches, after, rows).await?);
        }
        Ok(all)
    };
    let mut all: Vec<Entry> = reads.ask(ask).await?;
    all.sort_by(|one, other| order(one).cmp(&order(other)).then(one.state.cmp(&other.state)));
    all.dedup_by(|one, other| order(one) == order(other));
    all.truncate(rows);
    Ok(all)
}

/// All that is known of one event, of this service or of all, for as long as it is kept.
///
/// # Errors
/// Postgres cannot be asked.
pub async fn story(reads: &Reads, event_id: &str, services: &[String]) -> Result<Story, HistoryError> {
    let ask = async |pool: PgPool| {
        let ends = sql::ends(&pool, event_id, services, OF_ONE + 1).await?;
        let failed = sql::failed(&pool, event_id, services, OF_ONE + 1).await?;
        Ok((ends, failed))
    };
    let (mut ends, mut failed) = reads.ask(ask).await?;
    // As in a page: of an attempt that ended its event there is the end alone.
    let with_end: HashSet<_> = ends.iter().map(|end| order(&end.entry)).collect();
    failed.retain(|attempt| !with_end.contains(&order(attempt)));
    let most = OF_ONE as usize;
    let more = ends.len() > most || failed.len() > most;
    ends.truncate(most);
    failed.truncate(most);
    Ok(Story { ends, failed, more })
}

/// The branches of the index of ends that these services have, or all of them.
pub(super) async fn ends(pool: &PgPool, services: &[Service]) -> Result<Vec<String>, sqlx::Error> {
    let filter = Filter {
        services: services.to_vec(),
        ..Filter::default()
    };
    sql::branches(pool, &sql::OUTCOMES, &filter).await
}

fn order(entry: &Entry) -> (i64, &str, &str) {
    (entry.at_us, &entry.event_id, &entry.service)
}
