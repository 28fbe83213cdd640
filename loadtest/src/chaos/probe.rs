//! The event that tells how long the fleet takes to recover.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{LOOK_EVERY, Trouble};

/// How long it may take.
const RECOVERED_WITHIN: Duration = Duration::from_secs(180);
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
        let done = timeout(RECOVERED_WITHIN, async {
            self.accepted(&id).await;
            self.done(&id).await;
        });
        let late = |_| {
            Trouble::Failed(format!(
                "an event sent after the fault is not done after {RECOVERED_WITHIN:?}"
            ))
        };
        done.await.map_err(late)?;
        Ok((id, began.elapsed()))
    }

    async fn accepted(&self, id: &str) {
        let http = reqwest::Client::new();
        let data = json!({"method": "POST", "path": "/repos/octo/hello/issues/99/comments", "body": {"body": "probe"}});
        let event = json!({"v": 1, "type": "call", "id": id, "priority": 10, "data": data});
        loop {
            let door = self.door.borrow().clone();
            let request = http.post(format!("{door}/v1/events/github")).json(&event);
            let sent = request.bearer_auth(&self.token).timeout(ANSWER_WITHIN).send();
            if sent.await.is_ok_and(|answer| answer.status().as_u16() == 202) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn done(&self, id: &str) {
        loop {
            let state =
                sqlx::query_scalar::<_, String>("SELECT state FROM results WHERE event_id = $1").bind(id);
            if let Ok(Some(_)) = state.fetch_optional(&self.database).await {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
