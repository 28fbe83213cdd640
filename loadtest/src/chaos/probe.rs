//! The event that tells how long the fleet takes to recover.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Trouble, until};

/// How long it may take, each until it is accepted and until it is done.
const RECOVERED_WITHIN: Duration = Duration::from_secs(120);
/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Its id, and the time from its first sending until it was done.
pub(super) type Probed = (String, Duration);

/// An event of the highest priority, sent until it is accepted.
pub(super) struct Probe {
    /// Where ingest is.
    pub(super) door: watch::Receiver<String>,
    pub(super) token: String,
    pub(super) database: PgPool,
}

impl Probe {
    pub(super) async fn send(self) -> Result<Probed, Trouble> {
        let began = Instant::now();
        let id = format!("comment:probe:{}", uuid::Uuid::now_v7().simple());
        let http = reqwest::Client::new();
        let data = json!({"method": "POST", "path": "/repos/octo/hello/issues/99/comments", "body": {"body": "probe"}});
        let event = json!({"v": 1, "type": "call", "id": id, "priority": 10, "data": data});
        until(
            "an event to be accepted after the fault",
            RECOVERED_WITHIN,
            async || {
                let door = self.door.borrow().clone();
                let sent = http
                    .post(format!("{door}/v1/events/github"))
                    .bearer_auth(&self.token)
                    .timeout(ANSWER_WITHIN)
                    .json(&event)
                    .send()
                    .await;
                sent.is_ok_and(|answer| answer.status().as_u16() == 202)
                    .then_some(())
            },
        )
        .await?;
        until(
            "an event to be done after the fault",
            RECOVERED_WITHIN,
            async || {
                let state: Option<String> =
                    sqlx::query_scalar("SELECT state FROM results WHERE event_id = $1")
                        .bind(&id)
                        .fetch_optional(&self.database)
                        .await
                        .ok()
                        .flatten();
                state.map(drop)
            },
        )
        .await?;
        Ok((id, began.elapsed()))
    }
}
