//! Values of a JSON document that are named by pointers (RFC 6901), read in one pass without building the document.

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longest pointer, in bytes.
pub const MAX_POINTER: usize = 256;
/// Most names in one.
pub const MAX_DEPTH: usize = 16;

/// A place in a JSON document, for example `/data/object/id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// A pointer of the program itself: without escapes.
    pub(super) fn of(text: &'static str) -> Self {
        Self(text.split('/').skip(1).map(str::to_owned).collect())
    }

    /// Its one name, where it has just one.
    pub(super) fn only(&self) -> Option<&str> {
        match &self.0[..] {
            [name] => Some(name),
            _ => None,
        }
    }
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = text
            .strip_prefix('/')
            .ok_or_else(|| format!("{text:?} is no JSON pointer: it must begin with /"))?;
        if text.len() > MAX_POINTER || names.split('/').count() > MAX_DEPTH {
            return Err(format!(
                "a JSON pointer may have {MAX_POINTER} bytes and {MAX_DEPTH} names"
            ));
        }
        let name = |name: &str| {
            let mut escaped = name.split('~').skip(1);
            if escaped.all(|rest| rest.starts_with(['0', '1'])) {
                Ok(name.replace("~1", "/").replace("~0", "~"))
            } else {
                Err(format!("{text:?} has a ~ that is neither ~0 nor ~1"))
            }
        };
        names.split('/').map(name).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|name| write!(f, "/{}", name.replace('~', "~0").replace('/', "~1")))
    }
}

/// The texts and whole numbers at these places, in their order; `None` where nothing, an empty text or anything else
/// stands. A name that an object has twice counts where it stands last.
///
/// # Errors
/// What makes the document no JSON.
pub fn pick(json: &str, pointers: &[Pointer]) -> Result<Vec<Option<String>>, serde_json::Error> {
    let mut found = vec![None; pointers.len()];
    read(json, pointers, &mut found)?;
    Ok(found)
}

/// The same for a known number of places.
pub(super) fn pick_each<const N: usize>(
    json: &str,
    pointers: &[Pointer; N],
) -> Result<[Option<String>; N], serde_json::Error> {
    let mut found = [const { None }; N];
    read(json, pointers, &mut found)?;
    Ok(found)
}

fn read(json: &str, pointers: &[Pointer], found: &mut [Option<String>]) -> Result<(), serde_json::Error> {
    let wanted = pointers.iter().enumerate();
    let wanted = wanted.map(|(at, pointer)| (at, &pointer.0[..])).collect();
    let mut json = serde_json::Deserializer::from_str(json);
    Node { wanted, found }.deserialize(&mut json)?;
    json.end()
}

/// Which pointers go through a value, and what is left of them from there.
type Wanted<'p> = Vec<(usize, &'p [String])>;

/// A value of the document that something is wanted of.
struct Node<'p, 'f> {
    wanted: Wanted<'p>,
    found: &'f mut [Option<String>],
}

impl<'p> Node<'p, '_> {
    fn scalar(self, text: &str) {
        for (at, _) in self.wanted.iter().filter(|(_, left)| left.is_empty()) {
            self.found[*at] = Some(text.to_owned()).filter(|text| !text.is_empty());
        }
    }

    /// What is wanted of a member. What stood under the same name before does not count any more.
    fn member(&mut self, wanted: Wanted<'p>) -> Node<'p, '_> {
        for (at, _) in &wanted {
            self.found[*at] = None;
        }
        Node {
            wanted,
            found: self.found,
        }
    }
}

/// The part of what is wanted that goes through the member `name`.
fn through<'p>(wanted: &Wanted<'p>, name: &str) -> Wanted<'p> {
    let through = wanted.iter().filter_map(|(at, left)| match left {
        [first, left @ ..] if first == name => Some((*at, left)),
        _ => None,
    });
    through.collect()
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.wanted.is_empty() {
            deserializer.deserialize_ignored_any(IgnoredAny).map(drop)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(text);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.scalar(&number.to_string());
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.scalar(&number.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(wanted) = map.next_key_seed(Name(&self.wanted))? {
            map.next_value_seed(self.member(wanted))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        for at in 0_usize.. {
            let wanted = through(&self.wanted, &at.to_string());
            if seq.next_element_seed(self.member(wanted))?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// A member's name, compared where it stands.
struct Name<'w, 'p>(&'w Wanted<'p>);

impl<'de, 'p> DeserializeSeed<'de> for Name<'_, 'p> {
    type Value = Wanted<'p>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for Name<'_, 'p> {
    type Value = Wanted<'p>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(through(self.0, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(texts: &[&str]) -> Vec<Pointer> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn pointers_are_read_and_refused() {
        for good in ["/a", "/a/b", "/", "//", "/a~1b/~0", "/0/1", "/a b/é", "/~01"] {
            assert_eq!(good.parse::<Pointer>().unwrap().to_string(), good);
        }
        let (long, deep) = (format!("/{}", "x".repeat(256)), "/x".repeat(17));
        for bad in ["", "a", "a/b", "/~", "/~2", "/a~/b", &long, &deep] {
            assert!(bad.parse::<Pointer>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn texts_and_whole_numbers_are_found_where_they_stand() {
        let json = r#"{"a":{"b":"x","n":-7,"l":[{"c":"0"},{"c":"1"}]},"a/b":"slash","t":true,"f":1.5,
            "z":null,"e":"","u":"\u00e9","big":18446744073709551615,"a b":1}"#;
        for (pointer, expected) in [
            ("/a/b", Some("x")),
            ("/a/n", Some("-7")),
            ("/a/l/1/c", Some("1")),
            ("/a/l/01/c", None),
            ("/a/l/2/c", None),
            ("/a", None),
            ("/a/b/c", None),
            ("/a~1b", Some("slash")),
            ("/t", None),
            ("/f", None),
            ("/z", None),
            ("/e", None),
            ("/u", Some("é")),
            ("/big", Some("18446744073709551615")),
            ("/a b", Some("1")),
            ("/nowhere", None),
        ] {
            let found = pick(json, &pointers(&[pointer])).unwrap();
            assert_eq!(found[0].as_deref(), expected, "{pointer}");
        }
        let found = pick(json, &pointers(&["/a/b", "/a/l/0/c", "/a/b", "/nowhere"])).unwrap();
        assert_eq!(
            found,
            [Some("x".into()), Some("0".into()), Some("x".into()), None]
        );
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        let wanted = pointers(&["/a/b", "/a/c"]);
        let found = pick(r#"{"a":{"b":"1","c":"2"},"a":{"b":"3"}}"#, &wanted).unwrap();
        assert_eq!(found, [Some("3".into()), None]);
        let found = pick(r#"{"a":{"b":"1","b":[]},"x":1}"#, &wanted).unwrap();
        assert_eq!(found, [None, None]);
    }

    #[test]
    fn what_is_no_json_is_refused_even_behind_what_was_found() {
        for broken in [
            "",
            "{",
            r#"{"a":{"b":"1"}"#,
            r#"{"a":{"b":"1"}} x"#,
            r#"{"a":{"b":"1"},"x":[}"#,
        ] {
            assert!(pick(broken, &pointers(&["/a/b"])).is_err(), "{broken}");
        }
    }
}
