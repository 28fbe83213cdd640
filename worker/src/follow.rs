//! Between stages 10 and 11: the events that rules emit on one that is done. They are decided once, committed together
//! with its outcome, published before it is acked, and removed from the table then; whoever finds the event done finds
//! what it still owes there too.

mod decide;
mod message;
pub mod metrics;
mod publish;
mod reload;
mod settings;
pub mod sweep;

use std::sync::Arc;

use shared::event::Event;
use shared::failpoint;
use shared::subject::{header, headers};

use crate::delivery::Delivery;
use crate::open::Unreadable;
use crate::outcome::Verdict;
use crate::pool::Pool;

pub use message::Message;
pub use reload::{InForce, Rulebook, others};
pub use settings::Book;

/// What an event owes.
#[derive(Debug, Default)]
pub struct Owed {
    messages: Vec<Message>,
    /// They are in the table already.
    kept: bool,
}

/// Whether this is a dead letter of rules that somebody replayed: its call was made long ago, and only the rules that
/// failed are to be asked again.
pub fn only_rules(delivery: &Delivery) -> bool {
    header(delivery.headers(), headers::RULES).is_some()
}

/// What an event owes after this verdict. Nothing, at once, where no rule is on events of this service.
pub async fn owed(
    event: &Result<Event, Unreadable>,
    delivery: &Delivery,
    verdict: &Verdict,
    pool: &Pool,
) -> Owed {
    match (pool.rules.of(&pool.config.service), event) {
        // On the heap: most services have no rules, and their events need not carry the space for it.
        (Some(book), Ok(event)) => Box::pin(by_rules(&book, event, delivery, verdict, pool)).await,
        (None, _) | (_, Err(_)) => Owed::default(),
    }
}

async fn by_rules(
    book: &Arc<Book>,
    event: &Event,
    delivery: &Delivery,
    verdict: &Verdict,
    pool: &Pool,
) -> Owed {
    let messages = match verdict {
        Verdict::Done(done) => {
            let ending = (done.code.to_string(), done.result.clone());
            decide::decide(book, event, delivery, Some(ending), pool).await
        }
        Verdict::Duplicate => {
            let messages = match &pool.store {
                Some(store) => store.owed(event.id.clone()).await,
                None => Vec::new(),
            };
            if !messages.is_empty() || !only_rules(delivery) {
                return Owed { messages, kept: true };
            }
            let ending = match &pool.store {
                Some(store) => store.ending(event.id.clone()).await,
                None => None,
            };
            decide::decide(book, event, delivery, ending, pool).await
        }
        Verdict::Retry { .. } | Verdict::Defer { .. } | Verdict::Dead { .. } => Vec::new(),
    };
    Owed {
        messages,
        kept: false,
    }
}

impl Owed {
    /// What is to be committed together with the outcome.
    pub fn to_commit(&self) -> Vec<Message> {
        if self.kept {
            Vec::new()
        } else {
            self.messages.clone()
        }
    }

    /// Publishes all of it, and removes it from the table; `false` when not all of it is published: then the delivery is
    /// to come again.
    pub async fn publish(self, event: &Result<Event, Unreadable>, delivery: &Delivery, pool: &Pool) -> bool {
        match event {
            Ok(event) if !self.messages.is_empty() => Box::pin(self.all(event, delivery, pool)).await,
            Ok(_) | Err(_) => true,
        }
    }

    async fn all(self, event: &Event, delivery: &Delivery, pool: &Pool) -> bool {
        failpoint::hit("rules.owed");
        for message in &self.messages {
            if let Err(what) = publish::publish(message, &pool.js).await {
                let (service, id, rule) = (&pool.config.service, &event.id, &message.rule);
                // What is in the table is published from there. An event that came too often for it would be buried,
                // although it is done.
                let left = pool.store.is_some() && delivery.delivered > pool.streams.max_deliver as u64 / 2;
                tracing::warn!(%service, %id, rule, what, left, "what follows from an event was not kept");
                return left;
            }
            pool.metrics.rules.followed(message);
            failpoint::hit("rules.published");
        }
        if let Some(store) = &pool.store {
            store.settled(event.id.clone()).await;
        }
        true
    }
}
