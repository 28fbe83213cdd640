//! Events that are too large for a message: their bytes go to the object store first, and the message refers to them.

use std::time::Duration;

use shared::claim::{self, Name, PutError};
use shared::failpoint;
use tokio::time::{Instant, timeout, timeout_at};

use super::outcome::Outcome;
use super::{Outgoing, Publisher, Target};

/// Room that an event leaves below the server's largest message, for the headers that a retry or a dead letter adds:
/// without it such an event could neither be retried nor buried.
const HEADROOM: usize = 16 * 1024;
/// How long an answer waits for the removal of bytes that nobody will refer to. The scheduler removes what is left.
const REMOVE_WITHIN: Duration = Duration::from_secs(1);

/// Where the bytes of an event lie that is too large for a message.
#[derive(Debug, Default)]
pub(super) struct Body {
    name: Option<Name>,
    /// Whether a message that refers to them may have been kept without our knowing.
    unknown: bool,
}

impl Body {
    /// The name, if the bytes lie elsewhere.
    pub(super) fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// Nobody knows what became of a message that refers to them.
    pub(super) fn sent_without_answer(&mut self) {
        self.unknown = true;
    }
}

impl Publisher {
    /// Puts the bytes of an event into the object store, once, if no message has room for them. Asked before every try:
    /// what the server takes is known only while it is connected.
    pub(super) async fn store(
        &self,
        event: &Outgoing,
        target: &Target,
        body: &mut Body,
        give_up: Instant,
    ) -> Result<(), Outcome> {
        let most = self.client.max_payload();
        if body.name.is_some() || most == 0 || event.payload.len() + HEADROOM <= most {
            return Ok(());
        }
        let name = Name::fresh(&target.service, &event.id);
        let put = claim::put(&self.js, &name, &event.payload, most);
        match timeout_at(give_up, put).await {
            Ok(Ok(())) => {
                failpoint::hit("ingest.stored");
                body.name = Some(name);
                Ok(())
            }
            Ok(Err(PutError::Full)) => Err(Outcome::bucket_full()),
            Ok(Err(PutError::NoBucket)) => Err(Outcome::NoStream),
            Ok(Err(PutError::Away(what))) => Err(Outcome::Again(what)),
            Err(_) => Err(Outcome::Again(
                "the bytes of the event were not kept in time".into(),
            )),
        }
    }

    /// Removes bytes that no message refers to: the server refused the message, has an earlier one of this event, or was
    /// never asked. Where a try was never answered they stay, because its message may be there.
    pub(super) async fn unstore(&self, body: &Body) {
        let Some(name) = body.name().filter(|_| !body.unknown) else {
            return;
        };
        if !matches!(
            timeout(REMOVE_WITHIN, claim::remove(&self.js, name)).await,
            Ok(Ok(()))
        ) {
            tracing::debug!(%name, "bytes that nobody refers to remain for now");
        }
    }
}
