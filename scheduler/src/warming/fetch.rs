//! Asks a worker to fetch keys, over core NATS: one that is free answers, or nobody does.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use shared::access::read;
use shared::subject::Service;
use shared::warm::{self, Answer, Item, Outcome};
use sqlx::PgPool;

/// How long a worker has, longer than it takes itself.
const WITHIN: Duration = Duration::from_secs(30);

/// What became of keys.
#[derive(Debug)]
pub(super) struct Sent {
    /// Each key that was to be fetched.
    pub(super) ends: Vec<(u64, End)>,
    /// How long ago the API refused a call, whatever it was for.
    pub(super) refused_ago: Option<Duration>,
    /// Whether a worker was asked.
    pub(super) requested: bool,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// What a worker says.
    Said(Outcome),
    /// It is not known what to fetch for it.
    Unknown,
    /// No worker is there, or nobody could be asked.
    Nobody,
    /// A worker may have fetched it and did not say so.
    Unanswered,
}

impl End {
    /// One word.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Said(Outcome::Fetched) => "fetched",
            Self::Said(Outcome::Fresh) => "fresh",
            Self::Said(Outcome::Refused) => "refused",
            Self::Said(Outcome::Failed) => "failed",
            Self::Said(Outcome::Skipped(why)) => why.as_str(),
            Self::Unknown => "unknown",
            Self::Nobody => "nobody",
            Self::Unanswered => "unanswered",
        }
    }

    /// Whether a call may have been made.
    pub(super) const fn called(self) -> bool {
        match self {
            Self::Said(Outcome::Fetched | Outcome::Refused | Outcome::Failed) | Self::Unanswered => true,
            Self::Said(Outcome::Fresh | Outcome::Skipped(_)) | Self::Unknown | Self::Nobody => false,
        }
    }
}

/// Has these keys fetched.
pub(super) async fn fetch(
    client: async_nats::Client,
    database: PgPool,
    service: Service,
    keys: Vec<u64>,
) -> Sent {
    let mut sent = Sent {
        ends: Vec::with_capacity(keys.len()),
        refused_ago: None,
        requested: false,
    };
    let known = match read::what(&database, &service, &keys).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%service, %error, "what to fetch ahead cannot be looked up");
            sent.ends.extend(keys.into_iter().map(|key| (key, End::Nobody)));
            return sent;
        }
    };
    // Of two digests that begin the same, one is fetched: there is no telling which was meant.
    let mut known: HashMap<u64, Item> = known
        .into_iter()
        .map(|(digest, what)| (digest.id(), Item::new(digest, what)))
        .collect();
    let mut items = Vec::with_capacity(keys.len());
    for key in keys {
        match known.remove(&key) {
            Some(item) => items.push(item),
            None => sent.ends.push((key, End::Unknown)),
        }
    }
    if items.is_empty() {
        return sent;
    }
    sent.requested = true;
    let asked: Vec<u64> = items.iter().map(|item| item.key).collect();
    let answer = ask(&client, &service, items).await;
    let said: HashMap<u64, Outcome> = match answer {
        Ok(answer) => {
            sent.refused_ago = answer.refused_ago_ms.map(Duration::from_millis);
            answer.outcomes.into_iter().collect()
        }
        Err(end) => {
            sent.ends.extend(asked.into_iter().map(|key| (key, end)));
            return sent;
        }
    };
    let end = |key| {
        (
            key,
            said.get(&key)
                .map_or(End::Unanswered, |outcome| End::Said(*outcome)),
        )
    };
    sent.ends.extend(asked.into_iter().map(end));
    sent
}

async fn ask(client: &async_nats::Client, service: &Service, items: Vec<Item>) -> Result<Answer, End> {
    let request = warm::Request { items }.encode();
    let request = Request::new().payload(request).timeout(Some(WITHIN));
    match client.send_request(service.warm(), request).await {
        Ok(message) => Answer::decode(&message.payload).map_err(|error| {
            tracing::warn!(%service, %error, "a worker's answer about warming cannot be read");
            End::Unanswered
        }),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(End::Nobody),
        Err(error) => {
            tracing::info!(%service, %error, "no worker has said what it warmed");
            Err(End::Unanswered)
        }
    }
}
