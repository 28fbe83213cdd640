//! Where the fields of an event stand in a delivery when its settings say so: `header:X-Foo`, `body:/json/pointer`, a
//! constant or `none`, several of them separated by `|`. The first that gives a usable value counts.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use shared::event::{Key, MAX_NAME, Priority, Tenant};

use super::form;
use super::pointer::{Pointer, pick};

/// Most places of one field.
pub const MAX_PLACES: usize = 8;

/// A field of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// What happened.
    Type,
    /// The delivery's id.
    Id,
    /// Whose it is.
    Tenant,
    /// What it belongs to.
    Key,
    /// How urgent it is.
    Priority,
}

impl Field {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 5] = [Self::Type, Self::Id, Self::Tenant, Self::Key, Self::Priority];

    /// The end of its setting's name.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Type => "TYPE",
            Self::Id => "ID",
            Self::Tenant => "TENANT",
            Self::Key => "KEY",
            Self::Priority => "PRIORITY",
        }
    }

    /// Whether a constant can be its value.
    fn check(self, constant: &str) -> Result<(), &'static str> {
        let (fits, bounds) = match self {
            Self::Type => (is_kind(constant), "must be 1 to 128 characters"),
            Self::Id => (false, "would make all deliveries one event"),
            Self::Tenant => (
                Tenant::new(constant).is_ok(),
                "must be 1 to 64 of A-Z a-z 0-9 _ -",
            ),
            Self::Key => (Key::new(constant).is_ok(), "must be 1 to 256 bytes"),
            Self::Priority => (
                priority(constant).is_some(),
                "must be a whole number from 1 to 10",
            ),
        };
        if fits { Ok(()) } else { Err(bounds) }
    }
}

/// Whether a text can be an event's type.
pub(super) fn is_kind(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control)
}

/// The priority that a text says.
pub(super) fn priority(text: &str) -> Option<Priority> {
    Priority::new(text.parse().ok()?).ok()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Header(HeaderName),
    Body(Pointer),
    Constant(String),
    Nothing,
}

impl Place {
    fn read(text: &str, field: Field) -> Result<Self, String> {
        if text.contains(char::is_control) {
            return Err(format!("{text:?} holds control characters"));
        }
        if let Some(name) = text.strip_prefix("header:") {
            let name = HeaderName::from_bytes(name.as_bytes());
            return name
                .map(Self::Header)
                .map_err(|_| format!("{text:?} names no header"));
        }
        if let Some(pointer) = text.strip_prefix("body:") {
            return pointer.parse().map(Self::Body);
        }
        match (text, field) {
            ("none", Field::Id | Field::Tenant | Field::Key) => Ok(Self::Nothing),
            // A misspelt `header:` must not become what all events are called.
            _ if text.contains(':') => Err(format!(
                "{text:?} is neither header:NAME nor body:/POINTER, and a constant holds no colon"
            )),
            _ => match field.check(text) {
                Ok(()) => Ok(Self::Constant(text.to_owned())),
                Err(what) => Err(format!("the constant {text:?} {what}")),
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Body(pointer) => write!(f, "body:{pointer}"),
            Self::Constant(text) => f.write_str(text),
            Self::Nothing => f.write_str("none"),
        }
    }
}

/// The places of one field, in the order in which they are looked at. Without any, the source's own rule holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places(Vec<Place>);

impl Places {
    /// The places of a field of which the settings say nothing.
    pub fn own(field: Field) -> Self {
        let constant = |text: String| Self(vec![Place::Constant(text)]);
        match field {
            Field::Priority => constant(Priority::default().get().to_string()),
            Field::Type | Field::Id | Field::Tenant | Field::Key => Self::default(),
        }
    }

    /// Reads the places of a field.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(text: &str, field: Field) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('|').map(str::trim).collect();
        if parts.len() > MAX_PLACES {
            return Err(format!("it has more than {MAX_PLACES} places"));
        }
        let places: Result<Vec<Place>, String> = parts.iter().map(|part| Place::read(part, field)).collect();
        let places = places?;
        let ends = |place: &Place| matches!(place, Place::Constant(_) | Place::Nothing);
        match places.iter().position(ends) {
            Some(at) if at + 1 < places.len() => Err(format!(
                "{:?} must stand last: nothing is looked at after it",
                parts[at]
            )),
            _ => Ok(Self(places)),
        }
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, place) in self.0.iter().enumerate() {
            let between = if at > 0 { "|" } else { "" };
            write!(f, "{between}{place}")?;
        }
        Ok(())
    }
}

/// What the settings of a source say about the fields of its events.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// By [`Field`], in the order of its discriminants.
    places: [Places; 5],
    pointers: Vec<Pointer>,
}

impl Overrides {
    /// The overrides of a source, its places in the order of [`Field::ALL`].
    pub fn new(places: [Places; 5]) -> Self {
        let of = |places: &Places| places.0.clone();
        let pointers = places.iter().flat_map(of).filter_map(|place| match place {
            Place::Body(pointer) => Some(pointer),
            _ => None,
        });
        Self {
            pointers: pointers.collect(),
            places,
        }
    }

    /// These overrides, to be looked up in one delivery.
    pub(super) fn of<'d>(&'d self, headers: &'d HeaderMap, body: &'d Bytes, is_form: bool) -> Lookup<'d> {
        Lookup {
            overrides: self,
            headers,
            body,
            is_form,
            picked: OnceCell::new(),
        }
    }
}

/// What a field is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish<T> {
    /// What the source's own rule says.
    Own,
    /// This.
    Value(T),
    /// Nothing at all.
    Nothing,
}

impl<T> Wish<T> {
    /// What the field is, where the source's own rule says `own`.
    pub(super) fn or(self, own: Option<T>) -> Option<T> {
        match self {
            Self::Own => own,
            Self::Value(value) => Some(value),
            Self::Nothing => None,
        }
    }
}

/// The overrides of a source and one of its deliveries. The body is read once, and only when a place is in it.
pub(super) struct Lookup<'d> {
    overrides: &'d Overrides,
    headers: &'d HeaderMap,
    body: &'d Bytes,
    is_form: bool,
    picked: OnceCell<Vec<Option<String>>>,
}

impl Lookup<'_> {
    /// The first value of a field that `usable` takes.
    pub(super) fn find<T>(&self, field: Field, usable: impl Fn(&str) -> Option<T>) -> Wish<T> {
        for place in &self.overrides.places[field as usize].0 {
            let value = match place {
                Place::Header(name) => self.headers.get(name).and_then(|value| value.to_str().ok()),
                Place::Body(pointer) => self.in_body(pointer),
                Place::Constant(text) => Some(&**text),
                Place::Nothing => return Wish::Nothing,
            };
            if let Some(value) = value.filter(|text| !text.is_empty()).and_then(&usable) {
                return Wish::Value(value);
            }
        }
        Wish::Own
    }

    fn in_body(&self, pointer: &Pointer) -> Option<&str> {
        let pointers = &self.overrides.pointers;
        let at = pointers.iter().position(|known| known == pointer)?;
        let picked = self.picked.get_or_init(|| self.pick(pointers));
        picked.get(at)?.as_deref()
    }

    /// The body's JSON, the JSON in the field `payload` of a form, or the fields of a form; nothing of other bodies.
    fn pick(&self, pointers: &[Pointer]) -> Vec<Option<String>> {
        let json = if self.is_form {
            let Some(payload) = form::field(self.body, "payload") else {
                let field = |pointer: &Pointer| form::field(self.body, pointer.only()?);
                return pointers
                    .iter()
                    .map(|pointer| field(pointer).map(Cow::into_owned))
                    .collect();
            };
            payload
        } else {
            std::str::from_utf8(self.body).unwrap_or_default().into()
        };
        pick(&json, pointers).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn places(text: &str) -> Places {
        Places::read(text, Field::Key).unwrap()
    }

    #[test]
    fn places_are_read_and_shown() {
        for (written, shown) in [
            ("header:X-Foo", "header:x-foo"),
            ("body:/a/b~1c | none", "body:/a/b~1c|none"),
            ("header:a|body:/b|some constant", "header:a|body:/b|some constant"),
        ] {
            assert_eq!(places(written).to_string(), shown);
            assert_eq!(places(shown), places(written));
        }
    }

    #[test]
    fn wrong_places_are_told() {
        let many = ["header:a"; 9].join("|");
        for (text, field, what) in [
            ("", Field::Key, "must be 1 to 256 bytes"),
            ("header:", Field::Key, "names no header"),
            ("header:a b", Field::Key, "names no header"),
            ("body:", Field::Key, "must begin with /"),
            ("body:a", Field::Key, "must begin with /"),
            ("body:/~2", Field::Key, "neither ~0 nor ~1"),
            ("body:/a\nb", Field::Key, "holds control characters"),
            ("heder:x", Field::Key, "neither header:NAME nor body:/POINTER"),
            ("header:a||x", Field::Type, "must be 1 to 128 characters"),
            ("x|header:a", Field::Type, "\"x\" must stand last"),
            ("none|header:a", Field::Tenant, "\"none\" must stand last"),
            ("fixed", Field::Id, "would make all deliveries one event"),
            ("a.b", Field::Tenant, "must be 1 to 64 of"),
            ("11", Field::Priority, "from 1 to 10"),
            ("none", Field::Priority, "from 1 to 10"),
            (&many, Field::Key, "more than 8 places"),
        ] {
            let told = Places::read(text, field).unwrap_err();
            assert!(told.contains(what), "{text:?}: {told}");
        }
    }

    #[test]
    fn the_first_usable_value_counts() {
        let (form, json) = (true, false);
        for (text, is_form, body, expected) in [
            (
                "header:x-a|body:/b",
                json,
                r#"{"b":"2"}"#,
                Wish::Value("1".to_owned()),
            ),
            (
                "header:x-none|body:/b",
                json,
                r#"{"b":"2"}"#,
                Wish::Value("2".into()),
            ),
            (
                "body:/a|body:/b",
                json,
                r#"{"a":"bad","b":3}"#,
                Wish::Value("3".into()),
            ),
            (
                "body:/a|constant",
                json,
                r#"{"a":{}}"#,
                Wish::Value("constant".into()),
            ),
            ("body:/a|none", json, "{}", Wish::Nothing),
            ("body:/a", json, "{}", Wish::Own),
            ("body:/a", json, "no JSON", Wish::Own),
            ("body:/a", json, "\"\u{0}\"", Wish::Own),
            ("body:/a", form, "a=5", Wish::Value("5".into())),
            ("body:/a/b", form, "a=5", Wish::Own),
            (
                "body:/a",
                form,
                "payload=%7B%22a%22%3A6%7D",
                Wish::Value("6".into()),
            ),
            ("body:/a", form, "payload=broken&a=5", Wish::Own),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-a", HeaderValue::from_static("1"));
            let mut all: [Places; 5] = Default::default();
            all[Field::Key as usize] = places(text);
            let (overrides, body) = (Overrides::new(all), Bytes::from(body));
            let lookup = overrides.of(&headers, &body, is_form);
            let usable = |text: &str| (text != "bad").then(|| text.to_owned());
            assert_eq!(lookup.find(Field::Key, usable), expected, "{text} of {body:?}");
            assert_eq!(lookup.find(Field::Tenant, usable), Wish::Own);
        }
        for (at, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, at);
        }
    }
}
