//! Every vector decodes to what stands beside it, or is refused for the reason that stands beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::super::*;
use super::{extra_json, fallback};

/// What a valid vector says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    canonical: bool,
    content_encoding: Option<String>,
    event: Expectation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    source: Option<String>,
    time: Option<u64>,
    priority: u8,
    key: Option<String>,
    tenant: Option<String>,
    data: Option<Value>,
    content_type: Option<String>,
    data_base64: Option<String>,
    data_msgpack_base64: Option<String>,
    #[serde(default)]
    extra: serde_json::Map<String, Value>,
}

/// What an invalid vector says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    kind: String,
    field: Option<String>,
    content_encoding: Option<String>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wire-v1").join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn take(bytes: Vec<u8>, encoding: Option<&str>) -> Result<(Bytes, Event), WireError> {
    let plain = decompress(bytes.into(), encoding)?;
    let event = decode(&plain, fallback)?;
    Ok((plain, event))
}

/// The payloads of all valid vectors as they travel uncompressed.
pub(super) fn valid() -> Vec<(String, Vec<u8>)> {
    let folder = folder("valid");
    let mut payloads = Vec::new();
    for name in names(&folder)
        .into_iter()
        .filter(|name| !name.ends_with(".expected.json"))
    {
        let bytes = fs::read(folder.join(&name)).unwrap();
        let is_zstd = bytes.starts_with(b"\x28\xb5\x2f\xfd");
        if !is_zstd {
            payloads.push((name, bytes));
        }
    }
    payloads
}

#[test]
fn valid_vectors_decode_to_what_they_say() {
    let folder = folder("valid");
    let names = names(&folder);
    let mut checked = 0;
    for file in names.iter().filter(|name| name.ends_with(".expected.json")) {
        let name = file.trim_end_matches(".expected.json");
        let expected: Expected = serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap();
        let form = if names.contains(&format!("{name}.json")) {
            "json"
        } else {
            "msgpack"
        };
        let bytes = fs::read(folder.join(format!("{name}.{form}"))).unwrap();
        let (plain, event) =
            take(bytes, expected.content_encoding.as_deref()).unwrap_or_else(|e| panic!("{name}: {e}"));
        compare(name, &event, &expected.event);
        let written = encode(&event);
        if expected.canonical {
            assert_eq!(written, plain, "{name}: not written byte for byte");
        }
        assert_eq!(
            decode(&written, fallback).as_ref(),
            Ok(&event),
            "{name}: changed by writing it"
        );
        checked += 1;
    }
    assert!(checked > 50, "only {checked} vectors");
    assert_eq!(
        names.len(),
        checked * 2,
        "a file without its pair in {}",
        folder.display()
    );
}

fn compare(name: &str, event: &Event, expected: &Expectation) {
    let id = expected
        .id
        .clone()
        .map_or_else(fallback, |id| EventId::new(id).unwrap());
    assert_eq!(event.id, id, "{name}");
    assert_eq!(event.kind, expected.kind, "{name}");
    assert_eq!(event.source, expected.source, "{name}");
    assert_eq!(event.time_ms, expected.time, "{name}");
    assert_eq!(event.priority.get(), expected.priority, "{name}");
    assert_eq!(
        event.key.as_ref().map(Key::as_str),
        expected.key.as_deref(),
        "{name}"
    );
    assert_eq!(
        event.tenant.as_ref().map(Tenant::as_str),
        expected.tenant.as_deref(),
        "{name}"
    );
    assert_eq!(
        extra_json(&event.extra),
        Value::Object(expected.extra.clone()),
        "{name}"
    );
    assert_eq!(event.extra.len(), expected.extra.len(), "{name}");

    let from_base64 = |text: &String| Bytes::from(BASE64_STANDARD.decode(text).unwrap());
    if let Some(value) = &expected.data {
        assert_eq!(event.data.to_json().unwrap().as_ref(), Some(value), "{name}");
    } else if let Some(raw) = &expected.data_msgpack_base64 {
        assert_eq!(event.data, Data::Inline(from_base64(raw)), "{name}");
    } else if let Some(bytes) = &expected.data_base64 {
        let content_type = expected.content_type.clone().unwrap();
        assert_eq!(
            event.data,
            Data::Blob {
                content_type,
                bytes: from_base64(bytes)
            },
            "{name}"
        );
    } else {
        assert_eq!(event.data, Data::None, "{name}");
    }
}

#[test]
fn invalid_vectors_are_refused_for_the_reason_they_say() {
    let folder = folder("invalid");
    let reasons: BTreeMap<String, Refusal> =
        serde_json::from_slice(&fs::read(folder.join("reasons.json")).unwrap()).unwrap();
    for (name, refusal) in &reasons {
        let bytes = fs::read(folder.join(format!("{name}.bin"))).unwrap();
        let Err(error) = take(bytes, refusal.content_encoding.as_deref()) else {
            panic!("{name}: taken");
        };
        let (kind, field) = name_of(&error);
        assert_eq!(
            (kind, field),
            (refusal.kind.as_str(), refusal.field.as_deref()),
            "{name}: {error}"
        );
    }
    assert!(reasons.len() > 100, "only {} vectors", reasons.len());
    assert_eq!(
        names(&folder).len(),
        reasons.len() + 1,
        "a file without a reason in {}",
        folder.display()
    );
}

/// The kind and field by which `reasons.json` names an error.
fn name_of(error: &WireError) -> (&'static str, Option<&str>) {
    match error {
        WireError::Empty => ("empty", None),
        WireError::NotAMap { .. } => ("not_a_map", None),
        WireError::Truncated { .. } => ("truncated", None),
        WireError::Malformed { .. } => ("malformed", None),
        WireError::TooDeep { .. } => ("too_deep", None),
        WireError::Trailing { .. } => ("trailing", None),
        WireError::KeyNotText { .. } => ("key_not_text", None),
        WireError::Duplicate { field } => ("duplicate", Some(field)),
        WireError::Missing { field, .. } => ("missing", Some(field)),
        WireError::Field { field, .. } => ("field", Some(field)),
        WireError::Version(_) => ("version", Some("v")),
        WireError::TooLarge => ("too_large", None),
        WireError::ExtraTooLarge => ("extra_too_large", None),
        WireError::Json(_) => ("json", None),
        WireError::Encoding(_) => ("encoding", None),
        WireError::Compression(_) => ("compression", None),
    }
}

/// Bytes of another media type stay bytes, broken JSON is an error.
#[test]
fn payloads_become_json_only_where_they_are_json() {
    let blob = |content_type: &str, bytes: &'static [u8]| Data::Blob {
        content_type: content_type.into(),
        bytes: Bytes::from_static(bytes),
    };
    assert_eq!(blob("image/png", b"{}").to_json(), Ok(None));
    assert_eq!(
        blob("Application/JSON; charset=utf-8", b"[1]").to_json(),
        Ok(Some(serde_json::json!([1])))
    );
    assert_eq!(
        blob("application/vnd.github+json", b"[1]").to_json(),
        Ok(Some(serde_json::json!([1])))
    );
    assert!(blob("application/json", b"[1").to_json().is_err());
    let number_keys = Data::Inline(Bytes::from_static(b"\x81\x07\x01"));
    assert!(number_keys.to_json().is_err());
}

/// A position in an error is that of the trouble, so that a person can look there.
#[test]
fn errors_tell_where() {
    let at = |bytes: &[u8]| super::read(bytes).unwrap_err();
    assert_eq!(at(b"\x81\xa1v\xcd\x01"), WireError::Truncated { at: 3 });
    assert_eq!(at(b"\x81\xa4data\x91\xc1"), WireError::Malformed { at: 7 });
    assert_eq!(
        at(b"\x82\xa1v\x01\xa4type\xa1t\x00"),
        WireError::Trailing { at: 11 }
    );
    assert_eq!(at(b"\x82\xa1v\x01\x07\x01"), WireError::KeyNotText { at: 4 });
}
