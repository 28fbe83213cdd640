//! The JSON form: the same fields; bytes travel as `data_base64`.

use std::fmt;

use base64::Engine;
use bytes::Bytes;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Field, Fields, MAX_DEPTH, MAX_EXTRA, OCTETS, Scalar, WireError};
use crate::event::{Data, Extra};

pub(super) fn read(payload: &[u8]) -> Result<Fields, WireError> {
    // The parser would quote the whole of what stands there instead.
    if payload
        .trim_ascii_start()
        .first()
        .is_some_and(|first| *first != b'{')
    {
        return Err(WireError::Json("not an object".into()));
    }
    let mut refusal = None;
    let mut json = serde_json::Deserializer::from_slice(payload);
    let fields = json
        .deserialize_map(Object {
            refusal: &mut refusal,
        })
        .and_then(|fields| {
            json.end()?;
            Ok(fields)
        });
    fields.map_err(|e| refusal.unwrap_or_else(|| WireError::Json(e.to_string())))
}

/// Reads the object; what is wrong with a field comes back through `refusal`, typed.
struct Object<'r> {
    refusal: &'r mut Option<WireError>,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        let mut seen: Vec<String> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let mut take = || {
                if seen.contains(&name) {
                    return Ok(Err(WireError::Duplicate {
                        field: name.chars().take(64).collect(),
                    }));
                }
                let value = map.next_value::<&RawValue>()?;
                Ok(field(&mut fields, &name, value.get()))
            };
            if let Err(error) = take()? {
                *self.refusal = Some(error);
                return Err(A::Error::custom("refused"));
            }
            seen.push(name);
        }
        Ok(fields)
    }
}

fn field(fields: &mut Fields, name: &str, raw: &str) -> Result<(), WireError> {
    match Field::named(name) {
        Some(Field::Data) if raw == "null" => {}
        Some(Field::Data) => data(fields, Data::json(Bytes::copy_from_slice(raw.as_bytes())))?,
        Some(known) => scalar(fields, known, raw)?,
        None if name == "data_base64" && raw == "null" => {}
        None if name == "data_base64" => {
            let misfit = WireError::Field {
                field: "data_base64",
                expected: "must be standard base64 as text",
            };
            let text: String = serde_json::from_str(raw).map_err(|_| misfit.clone())?;
            let bytes = base64::prelude::BASE64_STANDARD
                .decode(text)
                .map_err(|_| misfit)?;
            data(
                fields,
                Data::Blob {
                    content_type: OCTETS.into(),
                    bytes: bytes.into(),
                },
            )?;
        }
        None => extra(fields, name, raw)?,
    }
    Ok(())
}

fn data(fields: &mut Fields, data: Data) -> Result<(), WireError> {
    match fields.data.replace(data) {
        None => Ok(()),
        Some(_) => Err(WireError::Field {
            field: "data",
            expected: "and data_base64 exclude each other",
        }),
    }
}

fn scalar(fields: &mut Fields, field: Field, raw: &str) -> Result<(), WireError> {
    if raw.starts_with(['{', '[']) {
        // Refused by `set` without being built: in memory it would be many times as large as in the message.
        return fields.set(field, &Scalar::Other);
    }
    let value: serde_json::Value = serde_json::from_str(raw).map_err(|_| field.misfit())?;
    let scalar = match &value {
        serde_json::Value::Null => Scalar::Nil,
        serde_json::Value::String(text) => Scalar::Text(text),
        serde_json::Value::Number(number) => number.as_u64().map_or(Scalar::Other, Scalar::Uint),
        _ => Scalar::Other,
    };
    fields.set(field, &scalar)
}

fn extra(fields: &mut Fields, name: &str, raw: &str) -> Result<(), WireError> {
    if fields.extra.pairs.len() + name.len() + raw.len() > MAX_EXTRA {
        return Err(WireError::ExtraTooLarge);
    }
    let value: serde_json::Value = serde_json::from_str(raw).map_err(|e| WireError::Json(e.to_string()))?;
    fields.extra.push_json(name, &value)
}

impl Extra {
    /// Adds a field that is not there yet.
    ///
    /// # Errors
    /// There are too many or too large ones, or it is nested too deep.
    pub fn push_json(&mut self, name: &str, value: &serde_json::Value) -> Result<(), WireError> {
        let before = self.pairs.len();
        let pushed = self.try_push(name, value);
        if pushed.is_err() {
            self.pairs.truncate(before);
        }
        pushed
    }

    fn try_push(&mut self, name: &str, value: &serde_json::Value) -> Result<(), WireError> {
        if self.count >= 1024 {
            return Err(WireError::ExtraTooLarge);
        }
        let pairs = &mut self.pairs;
        let unwritable = |e: rmp_serde::encode::Error| WireError::Json(e.to_string());
        rmp_serde::encode::write(pairs, name).map_err(unwritable)?;
        let value_at = pairs.len();
        rmp_serde::encode::write(pairs, value).map_err(unwritable)?;
        // JSON nests to 128 here, msgpack to 64: what is taken in one form must be readable in the other.
        super::msgpack::check_value(&pairs[value_at..])?;
        // Short numbers grow: `1.5` takes nine bytes.
        if pairs.len() > MAX_EXTRA {
            return Err(WireError::ExtraTooLarge);
        }
        self.count += 1;
        Ok(())
    }

    /// A field as JSON; `None` when it is not there.
    ///
    /// # Errors
    /// What makes it no JSON, for example binary in it.
    pub fn json(&self, name: &str) -> Result<Option<serde_json::Value>, String> {
        let mut pairs = rmp_serde::Deserializer::from_read_ref(&self.pairs[..]);
        pairs.set_max_depth(MAX_DEPTH + 1);
        for _ in 0..self.count {
            let found = String::deserialize(&mut pairs).map_err(|e| e.to_string())?;
            if found == name {
                return serde_json::Value::deserialize(&mut pairs)
                    .map(Some)
                    .map_err(|e| e.to_string());
            }
            IgnoredAny::deserialize(&mut pairs).map_err(|e| e.to_string())?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn further_fields_are_added_and_read_as_json_within_their_bounds() {
        let mut extra = Extra::default();
        extra.push_json("a", &json!([1, {"b": null}])).unwrap();
        extra.push_json("c", &json!("text")).unwrap();
        assert_eq!(extra.json("a"), Ok(Some(json!([1, {"b": null}]))));
        assert_eq!(extra.json("c"), Ok(Some(json!("text"))));
        assert_eq!(extra.json("d"), Ok(None));
        let deep = (0..70).fold(Value::Null, |inner, _| json!([inner]));
        let before = extra.clone();
        assert!(extra.push_json("deep", &deep).is_err());
        assert_eq!(
            extra.push_json("large", &json!("x".repeat(MAX_EXTRA))),
            Err(WireError::ExtraTooLarge)
        );
        assert_eq!(extra, before, "what is refused leaves nothing");
        // A field of another's making may hold what JSON has not.
        let bytes = Extra {
            count: 1,
            pairs: b"\xa1b\xc4\x01\xff".to_vec(),
        };
        assert!(bytes.json("b").is_err());
        assert_eq!(bytes.json("c"), Ok(None));
    }
}
