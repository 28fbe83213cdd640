//! Publishes one event to Weir and prints where the server keeps it, as one JSON line.
//!
//! usage: `cargo run -p shared --example publish -- SERVICE TYPE [DATA]`. DATA is JSON. The server is
//! `$WEIR_NATS_URL` (`nats://127.0.0.1:4222`).
#![allow(clippy::print_stdout, reason = "the result goes to standard output")]
#![allow(clippy::disallowed_methods, reason = "one setting needs no configuration")]

use std::error::Error;

use async_nats::HeaderMap;
use async_nats::jetstream;
use serde_json::json;
use shared::event::{Data, Event, EventId};
use shared::subject::{Service, headers};
use shared::wire;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(service), Some(kind)) = (arguments.next(), arguments.next()) else {
        return Err("usage: publish SERVICE TYPE [DATA]".into());
    };
    let service = Service::new(service).map_err(|error| format!("SERVICE {error}"))?;

    let mut event = Event::new(EventId::generate(), kind);
    event.source = Some("rust-example".into());
    if let Some(text) = arguments.next() {
        let _: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| format!("DATA is no JSON: {e}"))?;
        event.data = Data::json(text);
    }

    let mut about = HeaderMap::new();
    // The server drops a second message with the same id; send the same id again when an ack does not come.
    about.insert(headers::MESSAGE_ID, event.id.as_str());
    // A client that is traced passes its own context on instead.
    let (trace, span) = (rand::random::<u128>() | 1, rand::random::<u64>() | 1);
    about.insert(headers::TRACEPARENT, format!("00-{trace:032x}-{span:016x}-01"));
    let (payload, compressed) = wire::compress(wire::encode(&event));
    if compressed {
        about.insert(headers::CONTENT_ENCODING, wire::ZSTD);
    }

    let url = std::env::var("WEIR_NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".into());
    let client = async_nats::connect(url.split(',').collect::<Vec<_>>()).await?;
    let subject = service.subject(event.priority.lane(), None);
    let js = jetstream::new(client);
    let sent = js.publish_with_headers(subject.clone(), about, payload).await?;
    let ack = sent
        .await
        .map_err(|error| format!("not published to {subject}: {error}"))?;
    let kept = json!({
        "id": event.id.as_str(),
        "stream": ack.stream,
        "sequence": ack.sequence,
        "duplicate": ack.duplicate,
    });
    println!("{kept}");
    Ok(())
}
