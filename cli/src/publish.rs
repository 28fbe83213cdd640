//! `weir publish`: an event in the wire format, and the server's word that it is kept.

use std::io::Read;
use std::time::SystemTime;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use bytes::Bytes;
use shared::event::{Data, Event, EventId, is_json};
use shared::subject::headers;
use shared::telemetry::propagation::millis;
use shared::wire::{self, MAX_BYTES, ZSTD};

use crate::args::Publish;
use crate::failure::Failure;
use crate::{fleet, terminal};

pub(crate) async fn run(publish: Publish) -> Result<(), Failure> {
    let service = publish.service.clone();
    let event = event(&publish)?;
    let payload = wire::encode(&event);
    // What the fleet would not read is refused here, with the same words.
    wire::decode(&payload, EventId::generate).map_err(Failure::usage)?;
    let mut map = HeaderMap::new();
    map.insert(headers::MESSAGE_ID, event.id.as_str());
    let (payload, compressed) = wire::compress(payload);
    if compressed {
        map.insert(headers::CONTENT_ENCODING, ZSTD);
    }

    let reached = fleet::reach(&publish.fleet, None).await?;
    if let Some(services) = &reached.services
        && !services.iter().any(|name| name == service.as_str())
    {
        return Err(Failure::Failed(format!(
            "this fleet does not work for {service}: its services are {}",
            services.join(", ")
        )));
    }
    let most = reached.client.server_info().max_payload;
    if payload.len() > most {
        let text = format!(
            "the event takes {} bytes, and the NATS server takes at most {most}",
            payload.len()
        );
        return Err(Failure::Failed(text));
    }
    let subject = service.subject(event.priority.lane(), event.tenant.as_ref());
    let failed = |error: async_nats::jetstream::context::PublishError| match error.kind() {
        PublishErrorKind::StreamNotFound => Failure::Failed(format!(
            "no stream takes {subject}: is {service} one of the fleet's services (WEIR_SERVICES)?"
        )),
        _ => Failure::Failed(format!("publishing to {subject}: {error}")),
    };
    let sent = reached
        .js
        .publish_with_headers(subject.clone(), map, payload)
        .await
        .map_err(failed)?;
    let kept = sent.await.map_err(failed)?;
    if publish.json {
        terminal::out_json(&serde_json::json!({
            "id": event.id.as_str(),
            "subject": subject,
            "stream": kept.stream,
            "sequence": kept.sequence,
            "duplicate": kept.duplicate,
        }));
    } else {
        let how = if kept.duplicate {
            "was there already"
        } else {
            "kept"
        };
        terminal::out(format_args!(
            "{} {how}: stream {}, sequence {}",
            event.id, kept.stream, kept.sequence
        ));
    }
    Ok(())
}

fn event(publish: &Publish) -> Result<Event, Failure> {
    let mut event = Event::new(
        publish.id.clone().unwrap_or_else(EventId::generate),
        publish.kind.clone(),
    );
    event.source = Some(publish.source.clone());
    event.time_ms = Some(millis(SystemTime::now()));
    event.priority = publish.priority;
    event.key.clone_from(&publish.key);
    event.tenant.clone_from(&publish.tenant);
    if let Some(data) = &publish.data {
        let bytes = read(data)?;
        if is_json(&publish.content_type) {
            serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|error| {
                Failure::Usage(format!("--data is no JSON: {error} (see --content-type)"))
            })?;
        }
        event.data = Data::Blob {
            content_type: publish.content_type.clone(),
            bytes,
        };
    }
    Ok(event)
}

/// The payload that `--data` names, at most as much as an event may hold.
fn read(data: &str) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    let most = MAX_BYTES as u64 + 1;
    let (what, outcome) = match data.strip_prefix('@') {
        Some(path) => (
            format!("--data: {path}"),
            std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
        ),
        None if data == "-" => (
            "--data: standard input".to_owned(),
            std::io::stdin().lock().take(most).read_to_end(&mut bytes),
        ),
        None => return Ok(Bytes::copy_from_slice(data.as_bytes())),
    };
    outcome.map_err(|error| Failure::Usage(format!("{what}: {error}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(Failure::Usage(format!(
            "{what}: more than the {MAX_BYTES} bytes that an event may hold"
        )));
    }
    Ok(bytes.into())
}
