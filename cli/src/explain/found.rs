//! What was found of an event, place by place.

use serde::Serialize;
use serde_json::Value;
use shared::dead_letter::Attempt;
use shared::subject::{Lane, Service};

/// A result.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) service: String,
    pub(super) state: String,
    pub(super) attempts: i32,
    pub(super) code: String,
    pub(super) detail: String,
    /// What the handler kept of the answer.
    pub(super) result: Option<Value>,
    pub(super) took_ms: i64,
    pub(super) worker: String,
    pub(super) trace_id: String,
    pub(super) accepted_ms: i64,
    pub(super) finished_ms: i64,
}

/// A failed attempt.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub(super) struct Tried {
    pub(super) attempt: i32,
    pub(super) code: String,
    pub(super) detail: String,
    pub(super) worker: String,
    pub(super) at_ms: i64,
}

/// A message in its service's stream.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) service: Service,
    pub(super) lane: Lane,
    pub(super) sequence: u64,
    /// A worker has had it.
    pub(super) taken: bool,
    /// Others of its lane before it.
    pub(super) before: u64,
    /// Events of all lanes that go before it.
    pub(super) ahead: u64,
    /// Events that workers have.
    pub(super) in_flight: u64,
    /// When the server kept it, milliseconds since the Unix epoch.
    pub(super) kept: u64,
    /// In how many seconds it may begin, as far as limits tell.
    pub(super) begins: Option<f64>,
    /// What is in the way.
    pub(super) because: Option<String>,
    pub(super) attempts: u32,
    pub(super) history: Vec<Attempt>,
}

/// A message that waits for its time.
#[derive(Debug, Clone)]
pub(super) struct Put {
    pub(super) service: Service,
    /// Its time has come and it is on its way back.
    pub(super) due: bool,
    /// When, milliseconds since the Unix epoch.
    pub(super) at: Option<u64>,
    /// No upstream was in service.
    pub(super) out_of_service: bool,
    /// Its turn at a limit, milliseconds since the Unix epoch; `None` for a retry.
    pub(super) planned: Option<u64>,
    /// How the budgets of a day stand that it waits for, in sentences; `None` when it waits for none.
    pub(super) budgets: Option<Vec<String>>,
    pub(super) attempts: u32,
    pub(super) history: Vec<Attempt>,
}

/// A dead letter.
#[derive(Debug, Clone)]
pub(super) struct Buried {
    pub(super) service: Service,
    pub(super) sequence: u64,
    pub(super) code: String,
    pub(super) reason: String,
    pub(super) attempts: u32,
    /// Milliseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) history: Vec<Attempt>,
}

/// A stream that was looked through.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Searched {
    pub(super) stream: String,
    pub(super) looked_at: u64,
    pub(super) total: u64,
    /// It was not looked through to its end, and nothing was found.
    pub(super) cut: bool,
}
