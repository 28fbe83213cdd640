//! The answers that an event has paid for: in Postgres, by the event's id and the step of its work that asked.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::event::EventId;
use shared::failure::Failure;
use shared::subject::Service;
use sqlx::PgPool;
use tokio::time::timeout;

use super::money::{Nano, Usage};
use super::protocol::Finish;

/// A statement that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(500);
/// For how long answers are kept at least, in days: longer than an event waits for its retries.
const DAYS: i32 = 14;
/// Every so many answers, on average, old ones are looked for; and most that are removed at once. More than come.
const EVERY: u32 = 200;
const MOST_REMOVED: i64 = 1_000;

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What the model said.
    pub(super) text: String,
    /// How it ended.
    pub(super) finish: Finish,
    /// What it used.
    pub(super) usage: Usage,
    /// What events call the model.
    pub(super) model: String,
    /// The model's own name for itself.
    pub(super) exact: String,
    /// What this event paid for it: nothing for an answer that was there.
    pub(super) cost: Nano,
    /// Of the price.
    pub(super) price: String,
    /// Whether it was there already, for another event.
    pub(super) reused: bool,
}

/// Where they are kept.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    /// `None` where nothing is recorded.
    pub(super) database: Option<PgPool>,
    pub(super) service: Service,
}

impl Shelf {
    /// All answers of an event, by step.
    ///
    /// # Errors
    /// Postgres does not answer: without knowing, nothing is paid for.
    pub(super) async fn of(&self, event: &EventId) -> Result<HashMap<String, Kept>, Failure> {
        let Some(database) = &self.database else {
            return Ok(HashMap::new());
        };
        let rows = sqlx::query_as::<_, (String, String)>(
            "SELECT step, answer::text FROM agent_answers WHERE event_id = $1 AND service = $2",
        )
        .bind(event.as_str())
        .bind(self.service.as_str())
        .fetch_all(database);
        let unknown = |why: String| {
            let detail = format!("which answers are paid for is not known: {why}");
            Failure::throttled("postgres", detail, PATIENCE)
        };
        let rows = timeout(PATIENCE, rows)
            .await
            .map_err(|_| unknown("no answer in time".into()))?;
        let rows = rows.map_err(|e| unknown(e.to_string()))?;
        let read = |(step, answer): (String, String)| {
            let kept = serde_json::from_str(&answer).map_err(|e| {
                Failure::permanent(
                    "kept_answer",
                    format!("the answer kept of {step} cannot be read: {e}"),
                )
            })?;
            Ok((step, kept))
        };
        rows.into_iter().map(read).collect()
    }

    /// Keeps an answer, however long Postgres keeps us waiting: it is paid for.
    pub(super) async fn keep(&self, event: &EventId, step: &str, kept: &Kept) {
        let Some(database) = &self.database else { return };
        let Ok(answer) = serde_json::to_string(kept) else {
            return;
        };
        loop {
            let insert = sqlx::query(
                "INSERT INTO agent_answers (service, event_id, step, answer, at) \
                 VALUES ($1, $2, $3, $4::json, now()) ON CONFLICT DO NOTHING",
            )
            .bind(self.service.as_str())
            .bind(event.as_str())
            .bind(step)
            .bind(&answer)
            .execute(database);
            match timeout(PATIENCE, insert).await {
                Ok(Ok(_)) => break,
                Ok(Err(error)) => tracing::warn!(%event, step, %error, "a paid answer is not kept yet"),
                Err(_) => tracing::warn!(%event, step, "a paid answer is not kept yet: no answer in time"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        if rand::random_ratio(1, EVERY) {
            self.tidy(database).await;
        }
    }

    async fn tidy(&self, database: &PgPool) {
        let delete = sqlx::query(
            "DELETE FROM agent_answers WHERE ctid = ANY (ARRAY(SELECT ctid FROM agent_answers \
             WHERE at < now() - make_interval(days => $1) LIMIT $2 FOR UPDATE SKIP LOCKED))",
        )
        .bind(DAYS)
        .bind(MOST_REMOVED)
        .execute(database);
        if let Ok(Err(error)) = timeout(PATIENCE, delete).await {
            tracing::warn!(%error, "old answers were not removed");
        }
    }
}
