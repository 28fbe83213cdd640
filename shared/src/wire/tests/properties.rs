//! What must hold for every event and for any bytes at all.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::super::*;
use super::{extra_json, fallback, read, vectors};

/// Values that both JSON and msgpack can say and that come back the same.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 4.0 + 0.125)),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            vec((".{0,10}", inner), 0..8).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn text(most: usize) -> impl Strategy<Value = String> {
    "\\PC{1,64}".prop_map(move |mut text| {
        while text.len() > most {
            text.pop();
        }
        text
    })
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        Just(Data::None),
        value()
            .prop_filter("nil is no payload", |value| !value.is_null())
            .prop_map(|value| { Data::Inline(rmp_serde::to_vec(&value).unwrap().into()) }),
        (text(MAX_NAME), vec(any::<u8>(), 0..400)).prop_map(|(content_type, bytes)| Data::Blob {
            content_type,
            bytes: bytes.into()
        }),
    ]
}

fn extra() -> impl Strategy<Value = Extra> {
    let name = "[^\u{0}]{0,20}".prop_filter("known fields are not unknown", |name| {
        Field::named(name).is_none()
    });
    proptest::collection::btree_map(name, value(), 0..20).prop_map(|fields| {
        let mut extra = Extra {
            count: fields.len() as u32,
            pairs: Vec::new(),
        };
        for (name, value) in fields {
            rmp_serde::encode::write(&mut extra.pairs, &name).unwrap();
            rmp_serde::encode::write(&mut extra.pairs, &value).unwrap();
        }
        extra
    })
}

prop_compose! {
    fn event()(
        id in "[!-~]{1,256}",
        kind in text(MAX_NAME),
        source in proptest::option::of(text(MAX_SOURCE)),
        time_ms in proptest::option::of(any::<u64>()),
        priority in 1..=10_u64,
        key in proptest::option::of(text(256)),
        tenant in proptest::option::of("[A-Za-z0-9_-]{1,64}"),
        data in data(),
        extra in extra(),
    ) -> Event {
        Event {
            id: EventId::new(id).unwrap(),
            kind,
            source,
            time_ms,
            priority: Priority::new(priority).unwrap(),
            key: key.map(|key| Key::new(key).unwrap()),
            tenant: tenant.map(|tenant| Tenant::new(tenant).unwrap()),
            data,
            extra,
        }
    }
}

/// The same event in the JSON form, where its payload can be said in it.
fn as_json(event: &Event) -> Option<Vec<u8>> {
    let mut object = json!({
        "v": VERSION,
        "id": event.id.as_str(),
        "type": event.kind,
        "source": event.source,
        "time": event.time_ms,
        "priority": event.priority.get(),
        "key": event.key.as_ref().map(Key::as_str),
        "tenant": event.tenant.as_ref().map(Tenant::as_str),
    });
    match &event.data {
        Data::None => {}
        Data::Inline(_) => object["data"] = event.data.to_json().unwrap().unwrap(),
        Data::Blob { content_type, bytes } => {
            use base64::Engine;
            object["content_type"] = content_type.as_str().into();
            object["data_base64"] = base64::prelude::BASE64_STANDARD.encode(bytes).into();
        }
    }
    let Value::Object(extra) = extra_json(&event.extra) else {
        return None;
    };
    for (name, value) in extra {
        object[name] = value;
    }
    Some(object.to_string().into_bytes())
}

/// Bytes that often are msgpack: most begin a container or a short value.
fn likely_msgpack() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        0..=3_u8,
        0x80..=0x83_u8,
        0x90..=0x93_u8,
        0xa0..=0xa3_u8,
        0xc0..=0xdf_u8,
        any::<u8>()
    ]
    .boxed();
    prop_oneof![vec(byte.clone(), 1..6), vec(byte, 1..60)]
}

/// Whether `bytes` are exactly one msgpack value by the judgement of another implementation.
fn is_one_value(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut other = rmp_serde::Deserializer::new(&mut rest);
    IgnoredAny::deserialize(&mut other).is_ok() && rest.is_empty()
}

fn around(data: &[u8]) -> Vec<u8> {
    [b"\x83\xa1v\x01\xa4type\xa1t\xa4data", data].concat()
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }

    #[test]
    fn likely_msgpack_is_an_event_or_an_error(mut bytes in likely_msgpack(), entries in 0..16_u8) {
        bytes.insert(0, 0x80 | entries);
        let _ = read(&bytes);
    }

    #[test]
    fn any_json_is_an_event_or_an_error(text in r#"\{("v"|"type"|"data"|"x"|[:,{}\[\]"]|1|null|\PC){0,40}\}"#) {
        let _ = read(text.as_bytes());
    }

    /// What still decodes after it was damaged is written and read again without a change.
    #[test]
    fn damaged_vectors_are_an_event_or_an_error(
        which in any::<prop::sample::Index>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let vectors = vectors::valid();
        let mut bytes = which.get(&vectors).1.clone();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(event) = read(&bytes) {
            prop_assert_eq!(decode(&encode(&event), fallback), Ok(event));
        }
    }

    #[test]
    fn events_survive_the_wire(event in event()) {
        let bytes = encode(&event);
        prop_assert_eq!(encode(&event), bytes.clone(), "the same event, other bytes");
        let decoded = decode(&bytes, || panic!("asked for an id")).unwrap();
        prop_assert_eq!(decoded, event);
    }

    #[test]
    fn both_forms_say_the_same(event in event()) {
        let json = as_json(&event).unwrap();
        let decoded = read(&json).unwrap();
        prop_assert_eq!(decoded.data.to_json().ok(), event.data.to_json().ok());
        prop_assert_eq!(extra_json(&decoded.extra), extra_json(&event.extra));
        // The payload of the JSON form is JSON text and the order of unknown fields is the parser's.
        let same_payload = Event { data: event.data.clone(), extra: event.extra.clone(), ..decoded.clone() };
        prop_assert_eq!(&same_payload, &event);
        if !matches!(event.data, Data::Inline(_)) {
            prop_assert_eq!(&decoded.data, &event.data);
        }
        prop_assert_eq!(decode(&encode(&decoded), fallback), Ok(decoded));
    }

    #[test]
    fn compression_gives_back_the_bytes(bytes in vec(prop_oneof![Just(7_u8), any::<u8>()], 0..20_000), repeat in 1..5_usize) {
        let payload = Bytes::from(bytes.repeat(repeat));
        let (sent, compressed) = compress(payload.clone());
        prop_assert!(sent.len() <= payload.len());
        prop_assert_eq!(decompress(sent, compressed.then_some("Zstd")).unwrap(), payload);
    }

    #[test]
    fn any_bytes_decompress_or_are_refused(mut bytes in vec(any::<u8>(), 0..300), frame in any::<bool>()) {
        if frame {
            bytes.splice(0..0, *b"\x28\xb5\x2f\xfd");
        }
        let _ = decompress(bytes.into(), Some(ZSTD));
    }

    #[test]
    fn another_implementation_agrees_on_what_msgpack_is(bytes in likely_msgpack()) {
        prop_assert_eq!(read(&around(&bytes)).is_ok(), is_one_value(&bytes));
    }

    #[test]
    fn another_implementation_agrees_on_damaged_msgpack(
        value in value(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = rmp_serde::to_vec(&value).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let deep = matches!(read(&around(&bytes)), Err(WireError::TooDeep { .. }));
        prop_assert!(deep || read(&around(&bytes)).is_ok() == is_one_value(&bytes));
    }
}

#[test]
fn nesting_ends_at_the_limit_in_either_form() {
    for (levels, taken) in [(MAX_DEPTH - 1, true), (MAX_DEPTH, false)] {
        // Empty and full innermost arrays count the same.
        for innermost in [&[0x90][..], &[0x91, 0x01]] {
            let data = [&vec![0x91; levels - 1][..], innermost].concat();
            let event = read(&around(&data));
            assert_eq!(event.is_ok(), taken, "{levels} levels");
            if let Ok(event) = event {
                assert!(event.data.to_json().unwrap().is_some());
            }
        }
        let json = format!(
            r#"{{"v":1,"type":"t","x":{}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        );
        assert_eq!(read(json.as_bytes()).is_ok(), taken, "{levels} levels of JSON");
    }
}

#[test]
fn size_ends_at_the_limit() {
    let head = around(&[0xc6]);
    let room = MAX_BYTES - head.len() - 4;
    for (size, taken) in [(room, true), (room + 1, false)] {
        let mut payload = [&head[..], &(size as u32).to_be_bytes()].concat();
        payload.resize(payload.len() + size, 0);
        let payload = Bytes::from(payload);
        assert_eq!(decode(&payload, fallback).is_ok(), taken);
        let (small, compressed) = compress(payload.clone());
        assert!(compressed);
        assert_eq!(
            decompress(small, Some(ZSTD)),
            if taken {
                Ok(payload)
            } else {
                Err(WireError::TooLarge)
            }
        );
    }
}

/// Gigabytes in kilobytes: refused after the first 32 MiB, whose size bounds time and memory.
#[test]
fn bombs_are_refused_quickly() {
    let gigabytes = 8_u32;
    let mut bomb = b"\x28\xb5\x2f\xfd\x00\x68".to_vec();
    let block = (128_u32 * 1024) << 3 | 1 << 1;
    for _ in 0..gigabytes * 8192 {
        bomb.extend_from_slice(&block.to_le_bytes()[..3]);
        bomb.push(0);
    }
    let start = Instant::now();
    assert_eq!(decompress(bomb.into(), Some(ZSTD)), Err(WireError::TooLarge));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
}

/// In memory a JSON array is many times as large as in the message: known fields refuse it unbuilt.
#[test]
fn large_values_of_known_fields_are_refused_quickly() {
    let array = format!("[{}0]", "0,".repeat(8 << 20));
    let start = Instant::now();
    for field in ["id", "v", "time", "content_type"] {
        let json = format!(r#"{{"{field}":{array}}}"#);
        assert!(
            matches!(read(json.as_bytes()), Err(WireError::Field { field: named, .. }) if named == field)
        );
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "took {:?}",
        start.elapsed()
    );
}
