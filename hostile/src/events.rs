//! What must hold of every event, wherever it was read.

use shared::event::{Data, Event, MAX_ID, MAX_KEY, MAX_NAME, MAX_SOURCE};
use shared::wire;

/// Checks an event's bounds, and that writing and reading it changes nothing.
pub fn check(event: &Event) {
    let text = |text: &str, most: usize| {
        assert!(
            (1..=most).contains(&text.len()) && !text.chars().any(char::is_control),
            "{text:?}"
        );
    };
    let id = event.id.as_str();
    assert!(
        (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()),
        "{id:?}"
    );
    text(&event.kind, MAX_NAME);
    event.source.iter().for_each(|source| text(source, MAX_SOURCE));
    event.key.iter().for_each(|key| text(key.as_str(), MAX_KEY));
    if let Some(tenant) = event.tenant.as_ref().map(shared::event::Tenant::as_str) {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        assert!((1..=MAX_SOURCE).contains(&tenant.len()) && tenant.bytes().all(fits));
    }
    assert!((1..=10).contains(&event.priority.get()));
    assert!(event.extra.len() <= 1024);
    match &event.data {
        Data::None => {}
        Data::Inline(value) => assert!(!value.is_empty()),
        Data::Blob { content_type, .. } => text(content_type, MAX_NAME),
    }
    if let Err(why) = event.data.to_json() {
        assert!(!why.is_empty());
    }
    let written = wire::encode(event);
    assert_eq!(written, wire::encode(event), "the same event, other bytes");
    let read = wire::decode(&written, || unreachable!("the event brings its id"));
    assert_eq!(read.as_ref(), Ok(event));
    let (sent, compressed) = wire::compress(written.clone());
    assert!(sent.len() <= written.len());
    let encoding = compressed.then_some(wire::ZSTD);
    assert_eq!(wire::decompress(sent, encoding), Ok(written));
}
