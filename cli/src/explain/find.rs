//! Looks for an event in a stream, newest messages first, without taking anything away. A work-queue stream lends its
//! messages to nobody but its workers, so they are read one by one.

use async_nats::jetstream;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use shared::event::EventId;
use shared::stored;
use shared::subject::{Lane, header, headers, lane_and_tenant};
use shared::wire;

use crate::failure::Failure;

/// Most messages of a stream that are looked at.
pub(super) const MOST: u64 = 100_000;
/// Most dead letters that are looked at for an event that is done: few have one, and the answer is there already.
pub(super) const MOST_OF_DONE: u64 = CHUNK;
/// Most messages of one event that are kept: it may have been published and replayed several times.
const MOST_FOUND: usize = 20;
/// Parts of a stream that are walked at the same time.
const WALKERS: u64 = 16;
/// Sequences that are walked before looking whether it is found, in a stream that is not walked to its end.
const CHUNK: u64 = 8_192;

/// What a walk through a stream has found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Messages of the event.
    pub(super) found: Vec<StreamMessage>,
    /// Sequence and lane of every message that was looked at.
    pub(super) seen: Vec<(u64, Lane)>,
    /// Messages in the stream.
    pub(super) total: u64,
    /// Whether older messages were not looked at.
    pub(super) cut: bool,
}

/// Walks through the newest `most` messages and at most [`CHUNK`] more, or until the event is found.
pub(super) async fn walk(
    js: &jetstream::Context,
    stream: &Stream,
    id: &EventId,
    bar: &ProgressBar,
    most: u64,
) -> Result<Walked, Failure> {
    let info = stream.cached_info();
    let (name, state) = (&info.config.name, &info.state);
    let mut walked = Walked {
        total: state.messages,
        ..Walked::default()
    };
    if state.messages == 0 {
        return Ok(walked);
    }
    bar.set_length(state.messages.min(most));
    bar.set_position(0);
    bar.set_message(name.clone());
    let (first, mut to) = (state.first_sequence, state.last_sequence);
    let mut chunk = if state.messages > most {
        CHUNK
    } else {
        to - first + 1
    };
    loop {
        let from = first.max((to + 1).saturating_sub(chunk));
        let step = (to - from) / WALKERS + 1;
        let parts = (0..WALKERS).map(|part| {
            let begin = from + part * step;
            walk_part(js, name, begin, (begin + step - 1).min(to), id, bar)
        });
        let parts: Vec<Part> = stream::iter(parts)
            .buffer_unordered(WALKERS as usize)
            .try_collect()
            .await?;
        let before = walked.seen.len();
        for part in parts {
            walked.found.extend(part.found);
            walked.seen.extend(part.seen);
        }
        walked.found.truncate(MOST_FOUND);
        let more = from > first;
        if !more || !walked.found.is_empty() || walked.seen.len() as u64 >= most {
            walked.cut = more;
            return Ok(walked);
        }
        to = from - 1;
        // Where little is left of what was there, steps are longer.
        if ((walked.seen.len() - before) as u64) < chunk / 8 {
            chunk = chunk.saturating_mul(4);
        }
    }
}

#[derive(Debug, Default)]
struct Part {
    found: Vec<StreamMessage>,
    seen: Vec<(u64, Lane)>,
}

/// Goes from one sequence to another, both included; gaps are jumped over.
async fn walk_part(
    js: &jetstream::Context,
    name: &str,
    from: u64,
    to: u64,
    id: &EventId,
    bar: &ProgressBar,
) -> Result<Part, Failure> {
    let mut part = Part::default();
    let mut next = from;
    while next <= to {
        let message = match stored::next(js, name, ">", next).await {
            Ok(Some(message)) => message.message(),
            Ok(None) => break,
            Err(error) => return Err(Failure::failed(error)),
        };
        if message.sequence > to {
            break;
        }
        next = message.sequence + 1;
        part.seen
            .push((message.sequence, lane_and_tenant(&message.subject).0));
        bar.inc(1);
        if is_of(name, id, &message) {
            part.found.push(message);
        }
    }
    Ok(part)
}

/// Whether a message is of this event: by its bytes, else by its headers, else by its place, as a worker has it.
fn is_of(stream: &str, id: &EventId, message: &StreamMessage) -> bool {
    let told = |name| header(Some(&message.headers), name);
    if told(headers::ID) == Some(id.as_str()) {
        return true;
    }
    let fallback = || {
        [headers::ID, headers::MESSAGE_ID]
            .into_iter()
            .find_map(|name| EventId::new(told(name)?).ok())
            .unwrap_or_else(|| EventId::from_position(stream, message.sequence))
    };
    // The message id of an event that is published once is its id, and saves the decoding.
    if told(headers::ID).is_none() && told(headers::MESSAGE_ID) == Some(id.as_str()) {
        return true;
    }
    let plain = wire::decompress(message.payload.clone(), told(headers::CONTENT_ENCODING));
    match plain.and_then(|plain| wire::decode(&plain, fallback)) {
        Ok(event) => event.id == *id,
        Err(_) => fallback() == *id,
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use bytes::Bytes;
    use shared::event::Event;

    use super::*;

    fn message(given: &[(&str, &str)], payload: Bytes) -> StreamMessage {
        let mut map = HeaderMap::new();
        for (name, value) in given {
            map.insert(*name, *value);
        }
        StreamMessage {
            subject: "events.github".into(),
            sequence: 7,
            headers: map,
            payload,
            time: std::time::SystemTime::now().into(),
        }
    }

    #[test]
    fn an_event_is_known_by_bytes_headers_or_place() {
        let id = |text: &str| EventId::new(text).unwrap();
        let event = wire::encode(&Event::new(id("in-bytes"), "x"));
        let is = |wanted: &str, message: &StreamMessage| is_of("WEIR_github", &id(wanted), message);
        let broken = Bytes::from_static(b"\xc1");
        assert!(is("in-bytes", &message(&[], event.clone())));
        assert!(!is("other", &message(&[], event.clone())));
        assert!(is("in-bytes", &message(&[("Nats-Msg-Id", "else")], event)));
        assert!(is(
            "told",
            &message(&[("weir-id", "told"), ("Nats-Msg-Id", "x")], broken.clone())
        ));
        assert!(!is(
            "x",
            &message(&[("weir-id", "told"), ("Nats-Msg-Id", "x")], broken.clone())
        ));
        assert!(is("x", &message(&[("Nats-Msg-Id", "x")], broken.clone())));
        assert!(is("WEIR_github:7", &message(&[], broken)));
    }
}
