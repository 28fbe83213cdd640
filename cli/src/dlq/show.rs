//! `weir dlq show`: everything that is known of one dead letter.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use async_nats::jetstream;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use shared::claim;
use shared::dead_letter::DeadLetter;
use shared::event::{Data, Event, EventId};
use shared::subject::{header, headers};
use shared::telemetry::propagation::rfc3339;
use shared::wire;

use super::letters::{one, stream};
use super::patience::Refused;
use crate::args::DlqShow;
use crate::failure::Failure;
use crate::fleet;
use crate::tables::Columns;
use crate::terminal::{self, clean, clean_lines};

/// Characters of a header's value that are shown.
const HEADER: usize = 1000;
/// Characters of a payload that are shown; `--raw` writes all of it.
const TEXT: usize = 16 * 1024;
/// Bytes of a payload that are shown as hexadecimal.
const HEX: usize = 1024;

pub(super) async fn run(show: DlqShow) -> Result<(), Failure> {
    let reached = fleet::reach(&show.fleet, None).await?;
    let sequence = show.sequence;
    stream(&reached.js).await?;
    let found = one(&reached.js, sequence).await;
    let found = found.map_err(|refused| match refused {
        Refused::Later(why) => Failure::Failed(why),
        Refused::Never(why) => Failure::Failed(format!("{sequence} {why}")),
    })?;
    let mut letter = found.ok_or_else(|| Failure::Failed(format!("there is no dead letter {sequence}")))?;
    if let Err(why) = fetch(&reached.js, &mut letter).await {
        terminal::note(format_args!(
            "the event's bytes, which lie elsewhere, are not shown: {why}"
        ));
    }
    if show.raw {
        terminal::out_bytes(&letter.payload);
    } else if show.json {
        terminal::out_json(&as_json(&letter));
    } else {
        terminal::out(page(&letter).trim_end());
    }
    Ok(())
}

/// Puts the bytes of an event that is too large for a message in the place of its payload.
async fn fetch(js: &jetstream::Context, letter: &mut DeadLetter) -> Result<(), String> {
    if header(Some(&letter.headers), headers::CLAIM).is_none() {
        return Ok(());
    }
    let id = EventId::new(letter.id.as_str()).map_err(|error| error.to_string())?;
    let Some(name) = claim::of(Some(&letter.headers), &letter.service, &id) else {
        return Ok(());
    };
    let name = name.map_err(|error| format!("{} {error}", headers::CLAIM))?;
    let object = claim::find(js, &name).await.map_err(|error| error.to_string())?;
    let object = object.ok_or("there are none any more")?;
    letter.payload = claim::read(js, &object)
        .await
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn time(at: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_millis(at))
}

/// The event in the payload, or why there is none.
fn event(letter: &DeadLetter) -> Result<Event, String> {
    let encoding = header(Some(&letter.headers), headers::CONTENT_ENCODING);
    let plain = wire::decompress(letter.payload.clone(), encoding).map_err(|error| error.to_string())?;
    wire::decode(&plain, || EventId::from_position("dead", letter.sequence))
        .map_err(|error| error.to_string())
}

fn sorted_headers(letter: &DeadLetter) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, values) in letter.headers.iter() {
        for value in values {
            all.push((name.to_string(), value.as_str().to_owned()));
        }
    }
    all.sort();
    all
}

fn page(letter: &DeadLetter) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10}{}", clean(value, HEADER));
    };
    line("sequence", &letter.sequence.to_string());
    line("service", letter.service.as_str());
    line("id", &letter.id);
    line("code", &letter.code);
    line("reason", &letter.reason);
    line("died", &time(letter.at));
    line("accepted", &time(letter.accepted));
    line("subject", &letter.subject);
    line("attempts", &letter.attempts.to_string());

    if !letter.history.is_empty() {
        let mut columns = Columns::new(&["failed at", "code", "detail"]);
        for attempt in &letter.history {
            columns.row([
                time(attempt.at),
                clean(&attempt.code, 32).into_owned(),
                clean(&attempt.detail, 400).into_owned(),
            ]);
        }
        let _ = writeln!(text, "\nHistory\n{}", columns.text());
    }

    text.push_str("\nHeaders\n");
    for (name, value) in sorted_headers(letter) {
        let _ = writeln!(text, "  {}: {}", clean(&name, 200), clean(&value, HEADER));
    }
    let _ = write!(text, "\nPayload, {} bytes", letter.payload.len());
    match event(letter) {
        Ok(event) => {
            text.push_str(", an event\n");
            text.push_str(&fields(&event));
        }
        Err(why) => {
            let _ = writeln!(text, ", no event: {}", clean(&why, 400));
            text.push_str(&content(&letter.payload));
        }
    }
    text
}

fn fields(event: &Event) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name:<10}{}", clean(value, HEADER));
        }
    };
    line("type", Some(&event.kind));
    line("id", Some(event.id.as_str()));
    line("source", event.source.as_deref());
    line("time", event.time_ms.map(time).as_deref());
    line("priority", Some(&event.priority.get().to_string()));
    line("key", event.key.as_ref().map(shared::event::Key::as_str));
    line("tenant", event.tenant.as_ref().map(shared::event::Tenant::as_str));
    match (&event.data, event.data.to_json()) {
        (Data::None, _) => {}
        (_, Ok(Some(value))) => {
            let pretty = serde_json::to_string_pretty(&value).unwrap_or_default();
            let _ = writeln!(text, "  data\n{}", cut(&pretty));
        }
        (Data::Inline(bytes), _) => {
            let _ = writeln!(
                text,
                "  data, msgpack of {} bytes\n{}",
                bytes.len(),
                content(bytes)
            );
        }
        (Data::Blob { content_type, bytes }, _) => {
            let kind = clean(content_type, 128);
            let _ = writeln!(
                text,
                "  data, {} bytes of {kind}\n{}",
                bytes.len(),
                content(bytes)
            );
        }
    }
    text
}

/// Bytes as JSON, as text, or else as hexadecimal.
fn content(bytes: &Bytes) -> String {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        return cut(&serde_json::to_string_pretty(&value).unwrap_or_default());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => cut(text),
        Ok(_) | Err(_) => hex_dump(bytes),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        None => clean_lines(text),
        Some((at, _)) => {
            format!(
                "{}\n… {} more bytes: see --raw",
                clean_lines(&text[..at]),
                text.len() - at
            )
        }
    }
}

fn hex_dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (n, row) in bytes[..bytes.len().min(HEX)].chunks(16).enumerate() {
        let mut hex = String::new();
        for byte in row {
            let _ = write!(hex, "{byte:02x} ");
        }
        let seen: String = row
            .iter()
            .map(|b| {
                if b.is_ascii_graphic() || *b == b' ' {
                    *b as char
                } else {
                    '.'
                }
            })
            .collect();
        let _ = writeln!(text, "  {:08x}  {hex:<48} {seen}", n * 16);
    }
    if bytes.len() > HEX {
        let _ = writeln!(text, "  … {} more bytes: see --raw", bytes.len() - HEX);
    }
    text
}

fn as_json(letter: &DeadLetter) -> Value {
    let headers: Vec<Value> = sorted_headers(letter)
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let event = match event(letter) {
        Ok(event) => json!({
            "type": event.kind,
            "id": event.id.as_str(),
            "source": event.source,
            "time": event.time_ms,
            "priority": event.priority.get(),
            "key": event.key.as_ref().map(shared::event::Key::as_str),
            "tenant": event.tenant.as_ref().map(shared::event::Tenant::as_str),
            "data": event.data.to_json().ok().flatten(),
        }),
        Err(why) => json!({ "problem": why }),
    };
    json!({
        "sequence": letter.sequence,
        "service": letter.service.as_str(),
        "id": letter.id,
        "code": letter.code,
        "reason": letter.reason,
        "died_at": time(letter.at),
        "accepted_at": time(letter.accepted),
        "subject": letter.subject,
        "attempts": letter.attempts,
        "history": letter.history,
        "headers": headers,
        "event": event,
        "payload_base64": BASE64_STANDARD.encode(&letter.payload),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_shown_by_what_they_are_and_bounded() {
        assert_eq!(content(&Bytes::from_static(b"{\"a\":1}")), "{\n  \"a\": 1\n}");
        assert_eq!(content(&Bytes::from_static(b"two\nlines")), "two\nlines");
        let dump = content(&Bytes::from_static(b"\x82\xa1v\x01 binary"));
        assert!(dump.starts_with("  00000000  82 a1 76 01 20 "), "{dump}");
        let long = content(&Bytes::from("ä".repeat(TEXT + 5)));
        assert!(
            long.ends_with("… 10 more bytes: see --raw"),
            "{}",
            &long[long.len() - 60..]
        );
        assert!(content(&Bytes::from(vec![0xff; 5000])).ends_with("… 3976 more bytes: see --raw\n"));
    }
}
