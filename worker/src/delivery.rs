//! One delivery of a message: what the server handed us and must be told about. Settling consumes it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use shared::backoff::MAX_RETRIES;
use shared::dead_letter::{self, Attempt};
use shared::event::{Event, EventId};
use shared::subject::{Lane, header, headers, lane_and_tenant};
use shared::wire::{self, WireError};

/// A message that the server waits to hear about. Dropped unsettled, it is told in the log and comes again after the
/// ack wait.
#[derive(Debug)]
pub struct Delivery {
    message: async_nats::Message,
    client: Arc<async_nats::Client>,
    /// Its sequence in the stream: the same at every delivery of this message.
    pub sequence: u64,
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// When the server kept the message, milliseconds since the Unix epoch.
    kept: u64,
    settled: bool,
}

/// What the reply subject of a delivery tells. `async_nats` reads it too, but only from a message that holds a whole
/// JetStream context; making one for each message is a score of counters shared between all threads.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    sequence: u64,
    delivered: u64,
    /// Milliseconds since the Unix epoch.
    kept: u64,
    /// Messages that wait in the lane behind it.
    pending: u64,
}

/// How many messages wait in the lane of this delivery behind it.
pub(crate) fn pending(reply: &str) -> Option<u64> {
    Some(Place::read(reply)?.pending)
}

impl Place {
    /// `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<sequence>.<consumer's>.<time>.<pending>[.<more>]`
    /// (NATS ADR-15; with the domain there are at least 11 tokens).
    fn read(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let numbers = match tokens.len() {
            7 => &tokens[2..],
            9.. => &tokens[4..],
            _ => return None,
        };
        let number = |at: usize| numbers.get(at)?.parse::<u64>().ok();
        Some(Self {
            delivered: number(0)?.max(1),
            sequence: number(1)?,
            kept: number(3)? / 1_000_000,
            pending: number(4)?,
        })
    }
}

impl Delivery {
    /// Takes a message that came over a pull; `None` when it is no JetStream delivery.
    pub fn new(client: &Arc<async_nats::Client>, message: async_nats::Message) -> Option<Self> {
        let Place {
            sequence,
            delivered,
            kept,
            ..
        } = Place::read(message.reply.as_deref()?)?;
        Some(Self {
            message,
            client: Arc::clone(client),
            sequence,
            delivered,
            kept,
            settled: false,
        })
    }

    /// The subject it lies on.
    pub fn subject(&self) -> &str {
        &self.message.subject
    }

    /// Its lane and tenant.
    pub fn lane_and_tenant(&self) -> (Lane, Option<&str>) {
        lane_and_tenant(&self.message.subject)
    }

    /// Its headers.
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.message.headers.as_ref()
    }

    /// Its bytes as they came.
    pub fn payload(&self) -> Bytes {
        self.message.payload.clone()
    }

    /// How many bytes came.
    pub fn payload_len(&self) -> usize {
        self.message.payload.len()
    }

    /// Attempts that failed before this one, in earlier messages of the same event. Anybody can write the header: more
    /// than a schedule can hold count as that many.
    pub fn failed_attempts(&self) -> u32 {
        let said = header(self.headers(), headers::ATTEMPTS).and_then(|text| text.parse::<u32>().ok());
        said.unwrap_or(0).min(MAX_RETRIES as u32)
    }

    /// What became of them.
    pub fn history(&self) -> Vec<Attempt> {
        dead_letter::history(self.headers())
    }

    /// When the event was first kept, milliseconds since the Unix epoch: what an earlier message of it says, if that is
    /// not later than this one.
    pub fn accepted(&self) -> u64 {
        let said = header(self.headers(), headers::ACCEPTED).and_then(|text| text.parse().ok());
        said.filter(|said| *said <= self.kept).unwrap_or(self.kept)
    }

    /// When its turn at a limit was to come, milliseconds since the Unix epoch, if it has waited for one.
    pub fn planned(&self) -> Option<u64> {
        header(self.headers(), headers::PLANNED)?.parse().ok()
    }

    /// The dead letter that it was until somebody replayed it, by its sequence; 0 for none.
    pub fn replayed(&self) -> u64 {
        let said = header(self.headers(), headers::REPLAYED).and_then(|text| text.parse().ok());
        said.unwrap_or(0)
    }

    /// The id of the event where its bytes do not tell: from the headers, else its place in the stream.
    pub fn fallback_id(&self, stream: &str) -> EventId {
        [headers::ID, headers::MESSAGE_ID]
            .into_iter()
            .find_map(|name| EventId::new(header(self.headers(), name)?).ok())
            .unwrap_or_else(|| EventId::from_position(stream, self.sequence))
    }

    /// Decodes the event from `payload`: its own bytes, or those that it refers to.
    pub fn decode(&self, payload: Bytes, stream: &str) -> Result<Event, WireError> {
        let encoding = header(self.headers(), headers::CONTENT_ENCODING);
        let payload = wire::decompress(payload, encoding)?;
        wire::decode(&payload, || self.fallback_id(stream))
    }

    /// Tells the server that we are still at it: the ack wait begins anew.
    pub async fn progress(&self) {
        self.tell("+WPI".into()).await;
    }

    /// Done with it: the server forgets it. Sent, not awaited: when the ack is lost the message comes again and is
    /// found among the results.
    pub async fn ack(mut self) {
        self.settled = true;
        self.tell("+ACK".into()).await;
    }

    /// Hands it back: another worker gets it, at once or after `delay`.
    pub async fn hand_back(mut self, delay: Option<Duration>) {
        self.settled = true;
        let verb = match delay {
            None => "-NAK".into(),
            Some(delay) => format!("-NAK {{\"delay\":{}}}", delay.as_nanos()).into(),
        };
        self.tell(verb).await;
    }

    /// Takes it off the stream because it lies elsewhere now (a scheduled retry, a dead letter), or because its body is
    /// to be removed: an ack whose arrival is awaited, because its loss would run the event a second time beside its
    /// retry, or without its body. `false` when nobody confirmed it.
    pub async fn moved(mut self) -> bool {
        self.settled = true;
        let Some(reply) = self.message.reply.take() else {
            return false;
        };
        let confirmed = self.client.request(reply, "+ACK".into()).await;
        if let Err(error) = &confirmed {
            tracing::debug!(%error, sequence = self.sequence, "the ack of a message is not confirmed");
        }
        confirmed.is_ok()
    }

    async fn tell(&self, verb: Bytes) {
        if let Some(reply) = self.message.reply.clone() {
            // Fails only when the client is shut down; then the message comes again.
            let _ = self.client.publish(reply, verb).await;
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.settled {
            crate::metrics::UNSETTLED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tracing::error!(subject = %self.message.subject, sequence = self.sequence, "a delivery was dropped unsettled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let place = Some(Place {
            sequence: 20,
            delivered: 3,
            kept: 1_795_248_000_123,
            pending: 4,
        });
        assert_eq!(
            Place::read("$JS.ACK.WEIR_github.normal.3.20.18.1795248000123456789.4"),
            place
        );
        assert_eq!(
            Place::read("$JS.ACK.hub.ACC.WEIR_github.normal.3.20.18.1795248000123456789.4"),
            place
        );
        assert_eq!(
            Place::read("$JS.ACK.hub.ACC.WEIR_github.normal.3.20.18.1795248000123456789.4.x"),
            place
        );
        for bad in [
            "",
            "_INBOX.a.b",
            "$JS.ACK.s.c.1.2.3.4",
            "$JS.ACK.s.c.x.2.3.4.5",
            "$JS.ACK.s.c.1.2.3.4.5.6",
        ] {
            assert_eq!(Place::read(bad), None, "{bad}");
        }
    }
}
