//! Answers to the same question, shared by the fleet through Redis; and who of the fleet is asking it. A Redis that is
//! away is a miss.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::ConnectionManager;
use serde_json::Value;
use sha2::{Digest, Sha256};
use shared::event::EventId;
use shared::subject::Service;

use super::ask::Request;
use super::kept::Kept;
use super::model::Model;

/// Changed with whatever else than the question goes to a model, and with the form of what is kept.
const VERSION: &str = "1";
/// A question is locked for so long unless the lock is renewed: for as long it waits whose asker has died.
const LEASE: Duration = Duration::from_secs(10);
/// How often a lock is renewed.
const RENEWAL: Duration = Duration::from_secs(3);
/// Largest answer that is kept, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

static PUT: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("put.lua")));
static RENEW: LazyLock<redis::Script> = LazyLock::new(|| {
    redis::Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0",
    )
});
static UNLOCK: LazyLock<redis::Script> = LazyLock::new(|| {
    redis::Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
    )
});

/// A question by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Question([u8; 32]);

impl Question {
    /// The same for everybody of a tenant who asks the same of the same model.
    pub(super) fn shared(tenant: &str, model: &Model, request: &Request, prompt_version: &str) -> Self {
        let mut body = model.protocol.body(&model.id, request);
        // How it is read changes nothing of it; where it is cut does.
        if let Value::Object(fields) = &mut body {
            fields.remove("stream");
            fields.remove("stream_options");
        }
        let enough = request
            .enough
            .map_or_else(String::new, |enough| enough.to_string());
        let protocol = model.protocol.as_str();
        let parts = [
            "shared",
            VERSION,
            tenant,
            protocol,
            &model.base,
            &model.id,
            prompt_version,
            &enough,
        ];
        Self::of(&parts, &canonical(&body))
    }

    /// One event's own.
    pub(super) fn own(event: &EventId, step: &str, model: &Model) -> Self {
        Self::of(&["own", event.as_str(), step, &model.name], "")
    }

    fn of(parts: &[&str], body: &str) -> Self {
        let mut hasher = Sha256::new();
        for part in parts.iter().chain(&[body]) {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

/// JSON with the fields of each object in order.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(parts) => format!("[{}]", parts.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

/// The answers of one service.
#[derive(Clone)]
pub(super) struct Cache {
    pub(super) redis: ConnectionManager,
    pub(super) service: Service,
    /// For how long an answer is good; zero for no answers.
    pub(super) lasts: Duration,
    /// Most bytes of all answers.
    pub(super) bytes: u64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({}, {:?})", self.service, self.lasts)
    }
}

/// Who asks.
#[derive(Debug)]
pub(super) enum Lock {
    /// We, until we are done.
    Ours(String),
    /// Another.
    Theirs,
    /// Nobody can say.
    Unknown,
}

impl Cache {
    fn key(&self, what: &str, question: &Question) -> String {
        format!(
            "weir:{{{}:answers}}:{what}:{}",
            self.service,
            hex::encode(question.0)
        )
    }

    fn list(&self, what: &str) -> String {
        format!("weir:{{{}:answers}}:{what}", self.service)
    }

    /// Whether answers are kept at all.
    pub(super) fn is_on(&self) -> bool {
        !self.lasts.is_zero() && self.bytes > 0
    }

    /// The answer that there is.
    pub(super) async fn get(&self, question: &Question) -> Option<Kept> {
        let found: Option<Vec<u8>> = redis::cmd("GET")
            .arg(self.key("answer", question))
            .query_async(&mut self.redis.clone())
            .await
            .inspect_err(|error| tracing::debug!(%error, "no answers: Redis is away"))
            .ok()?;
        serde_json::from_slice(&found?).ok()
    }

    /// Keeps a complete answer, unless somebody else asks the question by now.
    pub(super) async fn put(&self, question: &Question, fence: &str, kept: &Kept) {
        let Ok(bytes) = serde_json::to_vec(kept) else {
            return;
        };
        if bytes.len() > MAX_ANSWER {
            return;
        }
        let put: Result<u8, _> = PUT
            .key(self.key("answer", question))
            .key(self.key("lock", question))
            .key(self.list("list"))
            .key(self.list("sizes"))
            .arg(bytes)
            .arg(fence)
            .arg(self.lasts.as_millis() as u64)
            .arg(self.bytes)
            .invoke_async(&mut self.redis.clone())
            .await;
        if let Err(error) = put {
            tracing::debug!(%error, "an answer is not shared");
        }
    }

    /// Asks to be the one who asks. Who is must [`hold`](Self::hold) the lock.
    pub(super) async fn lock(&self, question: &Question) -> Lock {
        let fence = format!("{:032x}", rand::random::<u128>());
        let locked: Result<Option<String>, _> = redis::cmd("SET")
            .arg(self.key("lock", question))
            .arg(&fence)
            .arg("NX")
            .arg("PX")
            .arg(LEASE.as_millis() as u64)
            .query_async(&mut self.redis.clone())
            .await;
        match locked {
            Ok(Some(_)) => Lock::Ours(fence),
            Ok(None) => Lock::Theirs,
            Err(_) => Lock::Unknown,
        }
    }

    /// Keeps a lock for as long as this is waited for.
    pub(super) async fn hold(&self, question: &Question, fence: &str) -> Infallible {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let held: Result<u8, _> = RENEW
                .key(self.key("lock", question))
                .arg(fence)
                .arg(LEASE.as_millis() as u64)
                .invoke_async(&mut self.redis.clone())
                .await;
            if let Err(error) = held {
                tracing::debug!(%error, "a question's lock is not renewed");
            }
        }
    }

    /// Is done with asking.
    pub(super) async fn unlock(&self, question: &Question, fence: &str) {
        let done: Result<u8, _> = UNLOCK
            .key(self.key("lock", question))
            .arg(fence)
            .invoke_async(&mut self.redis.clone())
            .await;
        if let Err(error) = done {
            tracing::debug!(%error, "a question stays locked until its lock lapses");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_fields_makes_no_other_question() {
        let (a, b) = (
            json!({"a": [1, {"x": "ä\"", "y": null}], "b": 2.5}),
            json!({"b": 2.5, "a": [1, {"y": null, "x": "ä\""}]}),
        );
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&a), r#"{"a":[1,{"x":"ä\"","y":null}],"b":2.5}"#);
        assert_ne!(canonical(&json!({"a": [1, 2]})), canonical(&json!({"a": [2, 1]})));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(Question::of(&["ab", "c"], ""), Question::of(&["a", "bc"], ""));
        assert_ne!(Question::of(&["a"], "b"), Question::of(&["a", "b"], ""));
    }
}
