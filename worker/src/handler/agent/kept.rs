//! The answers that an event has paid for, by the step of its work that asked, and what its calls have cost: in Postgres,
//! by the event's id.

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
/// How much longer than a dead letter all is kept: longer than an event waits for its retries, or in its stream after a
/// replay.
pub(super) const WAITS: Duration = Duration::from_secs(14 * 86_400);
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
    /// For how long all is kept after its event was last worked on.
    pub(super) lasts: Duration,
}

impl Shelf {
    /// Whether anything is kept.
    pub(super) fn is_there(&self) -> bool {
        self.database.is_some()
    }

    /// All answers of an event, by step. They are kept for longer with it, and what the event has spent.
    ///
    /// # Errors
    /// Postgres does not answer: without knowing, nothing is paid for.
    pub(super) async fn of(&self, event: &EventId) -> Result<HashMap<String, Kept>, Failure> {
        let Some(database) = &self.database else {
            return Ok(HashMap::new());
        };
        let rows = sqlx::query_as::<_, (String, String)>(
            "WITH used AS (UPDATE agent_answers SET at = now() \
             WHERE event_id = $1 AND service = $2 AND at < now() - interval '1 day'), \
             spent AS (UPDATE agent_spending SET since = now() \
             WHERE event_id = $1 AND service = $2 AND since < now() - interval '1 day') \
             SELECT step, answer::text FROM agent_answers WHERE event_id = $1 AND service = $2",
        )
        .bind(event.as_str())
        .bind(self.service.as_str())
        .fetch_all(database);
        let read = |(step, answer): (String, String)| {
            let kept = serde_json::from_str(&answer).map_err(|e| {
                Failure::permanent(
                    "kept_answer",
                    format!("the answer kept of {step} cannot be read: {e}"),
                )
            })?;
            Ok((step, kept))
        };
        known(rows).await?.into_iter().map(read).collect()
    }

    /// What the calls of an event have cost, and may cost that are under way.
    ///
    /// # Errors
    /// Postgres does not answer.
    pub(super) async fn spent(&self, event: &EventId) -> Result<Nano, Failure> {
        let Some(database) = &self.database else {
            return Ok(0);
        };
        let sum = sqlx::query_scalar::<_, i64>(
            "SELECT coalesce(sum(call.nano::bigint), 0)::bigint \
             FROM agent_spending, jsonb_each_text(calls) AS call (id, nano) WHERE event_id = $1 AND service = $2",
        )
        .bind(event.as_str())
        .bind(self.service.as_str())
        .fetch_one(database);
        Ok(known(sum).await?.unsigned_abs())
    }

    /// Reserves a sum for a call of an event. `false` when all its calls together would be over `bound`, which the sum
    /// alone is not.
    ///
    /// # Errors
    /// Postgres does not answer. The sum may be reserved all the same.
    pub(super) async fn reserve(
        &self,
        event: &EventId,
        call: &str,
        most: Nano,
        bound: Option<Nano>,
    ) -> Result<bool, Failure> {
        let Some(database) = &self.database else {
            return Ok(true);
        };
        // The condition is looked at when the row is locked: of calls that begin at the same time each sees the others.
        let reserve = sqlx::query(
            "INSERT INTO agent_spending AS spent (service, event_id, calls, since) \
             VALUES ($1, $2, jsonb_build_object($3::text, $4::bigint), now()) \
             ON CONFLICT (event_id, service) DO UPDATE SET calls = spent.calls || EXCLUDED.calls \
             WHERE $5::bigint IS NULL OR (SELECT sum(call.nano::bigint) \
             FROM jsonb_each_text(spent.calls || EXCLUDED.calls) AS call (id, nano)) <= $5",
        )
        .bind(self.service.as_str())
        .bind(event.as_str())
        .bind(call)
        .bind(most as i64)
        .bind(bound.map(|bound| bound as i64))
        .execute(database);
        Ok(known(reserve).await?.rows_affected() > 0)
    }

    /// A call has cost this, of what was reserved, however long Postgres keeps us waiting.
    pub(super) async fn settle(&self, event: &EventId, call: &str, cost: Nano) {
        let Some(database) = &self.database else { return };
        let settle = || {
            sqlx::query(
                "UPDATE agent_spending SET calls = (calls - $3) || \
                 CASE WHEN $4 > 0 THEN jsonb_build_object($3, $4) ELSE '{}' END WHERE service = $1 AND event_id = $2",
            )
            .bind(self.service.as_str())
            .bind(event.as_str())
            .bind(call)
            .bind(cost as i64)
            .execute(database)
        };
        surely(event, "what a call has cost", settle).await;
    }

    /// Keeps an answer, and what its `call` has cost if it was made for it, however long Postgres keeps us waiting.
    pub(super) async fn keep(&self, event: &EventId, step: &str, kept: &Kept, call: Option<&str>) {
        let Some(database) = &self.database else { return };
        let Ok(answer) = serde_json::to_string(kept) else {
            return;
        };
        let insert = || {
            sqlx::query(
                "WITH settled AS (UPDATE agent_spending SET calls = calls || jsonb_build_object($5::text, $6::bigint) \
                 WHERE service = $1 AND event_id = $2 AND $5 IS NOT NULL) \
                 INSERT INTO agent_answers (service, event_id, step, answer, at) \
                 VALUES ($1, $2, $3, $4::json, now()) ON CONFLICT DO NOTHING",
            )
            .bind(self.service.as_str())
            .bind(event.as_str())
            .bind(step)
            .bind(&answer)
            .bind(call)
            .bind(kept.cost as i64)
            .execute(database)
        };
        surely(event, step, insert).await;
        if rand::random_ratio(1, EVERY) {
            self.tidy(database).await;
        }
    }

    /// Removes what is old.
    async fn tidy(&self, database: &PgPool) {
        for delete in [
            "DELETE FROM agent_answers WHERE ctid = ANY (ARRAY(SELECT ctid FROM agent_answers \
             WHERE at < now() - make_interval(secs => $1) LIMIT $2 FOR UPDATE SKIP LOCKED))",
            "DELETE FROM agent_spending WHERE ctid = ANY (ARRAY(SELECT ctid FROM agent_spending \
             WHERE since < now() - make_interval(secs => $1) LIMIT $2 FOR UPDATE SKIP LOCKED))",
        ] {
            let delete = sqlx::query(delete)
                .bind(self.lasts.as_secs_f64())
                .bind(MOST_REMOVED)
                .execute(database);
            if let Ok(Err(error)) = timeout(PATIENCE, delete).await {
                tracing::warn!(%error, "old answers were not removed");
            }
        }
    }
}

/// What Postgres says, or that the event waits because it says nothing.
async fn known<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Failure> {
    let unknown = |why: String| {
        let detail = format!("what is paid for is not known: {why}");
        Failure::throttled("postgres", detail, PATIENCE)
    };
    let answer = timeout(PATIENCE, asked).await;
    answer
        .map_err(|_| unknown("no answer in time".into()))?
        .map_err(|e| unknown(e.to_string()))
}

/// Says it to Postgres until it is done.
async fn surely<T, F>(event: &EventId, what: &str, say: impl Fn() -> F)
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    loop {
        match timeout(PATIENCE, say()).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => tracing::warn!(%event, what, %error, "what is paid for is not kept yet"),
            Err(_) => tracing::warn!(%event, what, "what is paid for is not kept yet: no answer in time"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use shared::servers::{Postgres, PostgresOptions};

    use super::*;

    /// As many answers and sums as there are, and how many of them have not been used within an hour.
    async fn rows(pool: &PgPool) -> (i64, i64) {
        sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE at < now() - interval '1 hour') \
             FROM (SELECT at FROM agent_answers UNION ALL SELECT since FROM agent_spending) AS all_rows",
        )
        .fetch_one(pool)
        .await
        .unwrap()
    }

    async fn age(pool: &PgPool, days: i32) {
        for age in [
            "UPDATE agent_answers SET at = now() - make_interval(days => $1)",
            "UPDATE agent_spending SET since = now() - make_interval(days => $1)",
        ] {
            sqlx::query(age).bind(days).execute(pool).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_dead_letter_has_paid_is_known_for_as_long_as_it_can_be_replayed() {
        let dir = shared::servers::scratch_dir().unwrap();
        let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
        server.create_database("weir").await.unwrap();
        let pool = PgPool::connect(&server.url("weir")).await.unwrap();
        shared::store::migrate::migrate(&pool).await.unwrap();
        let shelf = Shelf {
            database: Some(pool.clone()),
            service: Service::new("agent").unwrap(),
            lasts: Duration::from_secs(30 * 86_400) + WAITS,
        };
        let event = EventId::new("e").unwrap();
        assert!(shelf.reserve(&event, "c", 10, None).await.unwrap());
        let kept = Kept {
            text: "x".into(),
            finish: Finish::Stop,
            usage: Usage::default(),
            model: "a".into(),
            exact: "a".into(),
            cost: 7,
            price: "1".into(),
            reused: false,
        };
        shelf.keep(&event, "answer", &kept, Some("c")).await;
        age(&pool, 43).await;
        shelf.tidy(&pool).await;
        assert_eq!(rows(&pool).await, (2, 2), "there may be a letter of it");
        assert!(shelf.of(&event).await.unwrap().contains_key("answer"));
        assert_eq!(rows(&pool).await, (2, 0), "a replay begins the time anew");
        assert_eq!(shelf.spent(&event).await, Ok(7));
        age(&pool, 45).await;
        shelf.tidy(&pool).await;
        assert_eq!(rows(&pool).await, (0, 0));
    }
}
