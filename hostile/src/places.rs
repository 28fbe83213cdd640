//! Where settings say that the fields of an event stand, and what is found there.
//!
//! `x-check-places` is the setting, the rest of the input a delivery whose body is looked into.

use ingest::accept::place::{Field, MAX_PLACES, Places};
use ingest::accept::pointer::{Pointer, pick};
use serde_json::Value;

use crate::bits;
use crate::request::Request;

/// Places are refused in words, or read and write themselves. What a pointer finds is what it names in the document by
/// another reading of both.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let written = request.told("places").unwrap_or("body:/a/b|body:/0");
    for field in Field::ALL {
        match Places::read(written, field) {
            Ok(places) => {
                let shown = places.to_string();
                assert_eq!(Places::read(&shown, field).as_ref(), Ok(&places), "{shown:?}");
                assert!(shown.split('|').count() <= MAX_PLACES);
                assert!(!shown.contains(['\n', '\0']), "{shown:?}");
            }
            // A reader of settings cuts it short and takes control characters out.
            Err(why) => assert!(!why.is_empty()),
        }
    }
    let pointers: Vec<Pointer> = written
        .split('|')
        .filter_map(|place| place.trim().strip_prefix("body:")?.parse().ok())
        .collect();
    let Ok(json) = std::str::from_utf8(&request.body) else {
        return;
    };
    // A number that no float holds is no value to serde_json, and neither is what lies deeper than it goes.
    let document: Option<Value> = serde_json::from_str(json).ok();
    let found = match pick(json, &pointers) {
        Ok(found) => found,
        Err(error) => {
            assert!(document.is_none());
            bits::told(&error.to_string(), 1_000);
            return;
        }
    };
    assert_eq!(found.len(), pointers.len());
    let Some(document) = document else { return };
    for (pointer, found) in pointers.iter().zip(found) {
        let expected = match document.pointer(&pointer.to_string()) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(Value::Number(number)) if !number.is_f64() => Some(number.to_string()),
            _ => None,
        };
        assert_eq!(found, expected, "{pointer} in {json}");
    }
}
