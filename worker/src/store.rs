//! Stage 10: what a worker keeps in Postgres: outcomes and failed attempts, which together are the audit log; what was
//! begun and has not ended. Rows of many events go in one statement; an event is acked only when its rows are durable.

pub mod follow_ups;
mod intents;
mod keeping;
mod outcomes;
mod suspects;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shared::event::{EventId, Tenant};
use shared::subject::Service;
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

use crate::batch::Batcher;
use crate::follow::Message;
use crate::metrics::StoreMetrics;
pub use intents::{Asked, Begun};
pub use keeping::{Keep, keep_up, tend};

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

/// What becomes of the note that was made before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// There was none.
    None,
    /// The call is over, and what it did is known.
    Over(Asked),
    /// The call is over, and nobody knows what it did.
    Unknown(Asked),
}

impl Intent {
    /// Which note it is about.
    fn asked(self) -> Option<Asked> {
        match self {
            Self::None => None,
            Self::Over(asked) | Self::Unknown(asked) => Some(asked),
        }
    }
}

/// One attempt, and the event's end when it was the last one.
#[derive(Debug, Clone)]
pub struct Row {
    /// The event.
    pub event_id: EventId,
    /// Whose event.
    pub service: Service,
    /// For whom, where the event says so.
    pub tenant: Option<Tenant>,
    /// Its end; `None` when another attempt follows.
    pub state: Option<State>,
    /// The class of a failure, `transient`, `unknown` or `permanent`; `None` for none.
    pub failure: Option<&'static str>,
    /// What becomes of its note.
    pub intent: Intent,
    /// Attempts so far.
    pub attempts: u32,
    /// One word.
    pub code: String,
    /// A sentence.
    pub detail: String,
    /// What the handler found worth keeping, JSON.
    pub result: Option<String>,
    /// What is owed since.
    pub owed: Vec<Message>,
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

/// How an event ended: the code, and what was kept of the answer.
pub type Ending = (String, Option<serde_json::Value>);

/// The store of one worker process for one service; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    find: Batcher<EventId, Finding>,
    begin: Batcher<(EventId, u64), Option<(Begun, Asked)>>,
    commit: Batcher<Row, bool>,
    owed: Batcher<EventId, Vec<Message>>,
    settled: Batcher<EventId, ()>,
    endings: Batcher<EventId, Option<Ending>>,
    suspect: Batcher<u64, u32>,
    clear: Batcher<u64, ()>,
}

/// For whom a store is.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The service.
    pub service: Service,
    /// The worker's name.
    pub worker: Arc<str>,
    /// For how long a repeated delivery is recognised.
    pub inbox: Duration,
    /// For how long a call that was begun may still be under way.
    pub longest_call: Duration,
}

impl Store {
    /// A store on these connections for one service; its tasks end when the last clone is gone.
    pub fn start(tasks: &TaskTracker, pool: PgPool, owner: Owner, metrics: StoreMetrics) -> Self {
        let owner = Arc::new(owner);
        let find = batcher(tasks, IDS, LOOKUPS, &pool, &owner, outcomes::find);
        let begin = batcher(tasks, ROWS, COMMITS, &pool, &owner, intents::begin);
        let owed = batcher(tasks, ROWS, 1, &pool, &owner, follow_ups::find);
        let settled = batcher(tasks, IDS, COMMITS, &pool, &owner, follow_ups::settle);
        let endings = batcher(tasks, ROWS, 1, &pool, &owner, follow_ups::endings);
        let suspect = batcher(tasks, ROWS, 1, &pool, &owner, suspects::note);
        let clear = batcher(tasks, ROWS, 1, &pool, &owner, suspects::clear);
        let commit = Batcher::start(tasks, ROWS, COMMITS, move |rows| {
            outcomes::commit(pool.clone(), rows, metrics.clone())
        });
        Self {
            find,
            begin,
            commit,
            owed,
            settled,
            endings,
            suspect,
            clear,
        }
    }

    /// Whether the event is done. Waits while Postgres is away: nothing is begun that could not be recorded.
    pub async fn find(&self, id: EventId) -> Finding {
        self.find.ask(id).await.unwrap_or(Finding::Open)
    }

    /// Notes that the event's call is about to begin; `replay` is the dead letter that it was, 0 for none. Waits while
    /// Postgres is away; `None` when the process ends.
    pub async fn begin(&self, id: EventId, replay: u64) -> Option<(Begun, Asked)> {
        self.begin.ask((id, replay)).await.ok().flatten()
    }

    /// Makes a row durable; waits while Postgres is away. `false` when the row itself is refused or the process ends.
    pub async fn commit(&self, row: Row) -> bool {
        self.commit.ask(row).await.unwrap_or(false)
    }

    /// What an event that is done still owes. Waits while Postgres is away.
    pub async fn owed(&self, id: EventId) -> Vec<Message> {
        self.owed.ask(id).await.unwrap_or_default()
    }

    /// All that the event owed is published. Waits while Postgres is away.
    pub async fn settled(&self, id: EventId) {
        // What is left in the table is published once more, under the same ids.
        let _ = self.settled.ask(id).await;
    }

    /// How an event ended that is done, as long as that is kept. Waits while Postgres is away.
    pub async fn ending(&self, id: EventId) -> Option<Ending> {
        self.endings.ask(id).await.ok().flatten()
    }

    /// Notes that a message is begun that came again; how often it was, this time included.
    pub async fn suspect(&self, sequence: u64) -> u32 {
        self.suspect.ask(sequence).await.unwrap_or(0)
    }

    /// A message that came again has come to an end.
    pub async fn clear(&self, sequence: u64) {
        // A note that is left counts once more than it should, for a day.
        let _ = self.clear.ask(sequence).await;
    }
}

fn batcher<Q, A, F, Fut>(
    tasks: &TaskTracker,
    size: usize,
    parallel: usize,
    pool: &PgPool,
    owner: &Arc<Owner>,
    answer: F,
) -> Batcher<Q, A>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Fn(PgPool, Arc<Owner>, Vec<Q>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<A>> + Send,
{
    let (pool, owner) = (pool.clone(), Arc::clone(owner));
    Batcher::start(tasks, size, parallel, move |asked| {
        answer(pool.clone(), Arc::clone(&owner), asked)
    })
}

/// Tries again until Postgres answers.
async fn until_answered<T, Fut: Future<Output = Result<T, sqlx::Error>>>(
    what: &str,
    statement: impl Fn() -> Fut,
) -> T {
    loop {
        match bounded(statement()).await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::warn!(%error, "{what}: events wait");
                tokio::time::sleep(AWAY_PAUSE).await;
            }
        }
    }
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
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23")) && !is_about_a_partition(error)
}

/// Whether a row's partition was made while the row was on its way to the default one: `check_violation` of no constraint that
/// has a name. The next try finds it.
fn is_about_a_partition(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    error
        .is_some_and(|error| error.code().is_some_and(|code| code == "23514") && error.constraint().is_none())
}
