//! Limits that are changed while workers run. People write a service's [`Wishes`] under its `set` key, its workers
//! answer with [`Now`] under its `now` key, both in the bucket [`LIMITS_BUCKET`](crate::subject::LIMITS_BUCKET), both
//! JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Rule;

/// Most bytes of a service's wishes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most limits that they may name.
pub const MAX_NAMES: usize = 64;

/// What is wished of a service's limits, by name. Limits that are not named stay as the settings say.
pub type Wishes = BTreeMap<String, Wish>;

/// What is wished of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Its rule.
    #[serde(default, skip_serializing_if = "Wished::is_as_set")]
    pub rule: Wished,
    /// Whether it is only counted and never in the way.
    #[serde(default)]
    pub shadow: bool,
}

/// A wished rule; in JSON a missing field, `null` or the rule's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wished {
    /// The one of the settings.
    #[default]
    AsSet,
    /// None: the limit is taken away.
    Gone,
    /// This one.
    Rule(Rule),
}

impl Wished {
    /// For serde.
    fn is_as_set(&self) -> bool {
        *self == Self::AsSet
    }
}

impl Serialize for Wished {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rule(rule) => serializer.collect_str(rule),
            Self::AsSet | Self::Gone => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for Wished {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            None => Ok(Self::Gone),
            Some(text) => text.parse().map(Self::Rule).map_err(serde::de::Error::custom),
        }
    }
}

/// Reads wishes.
///
/// # Errors
/// They are too long, too many, no JSON of this form, or name what is no name or no rule: told in words.
pub fn read(bytes: &[u8]) -> Result<Wishes, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("has more than {MAX_BYTES} bytes"));
    }
    let wishes: Wishes = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if wishes.len() > MAX_NAMES {
        return Err(format!("names more than {MAX_NAMES} limits"));
    }
    wishes.keys().try_for_each(|name| check_name(name))?;
    Ok(wishes)
}

/// Whether a limit may have this name: 1 to 64 of letters, digits and `-_.:`.
///
/// # Errors
/// It may not: why, in words.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
        Ok(())
    } else {
        Err(format!(
            "{name:?} is no name of a limit: 1 to 64 letters, digits, - _ . and : make one"
        ))
    }
}

/// A limit that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// How much.
    #[serde(serialize_with = "show_rule", deserialize_with = "read_rule")]
    pub rule: Rule,
    /// Only counted, never in the way.
    pub shadow: bool,
    /// Only some calls fall under it, for example those that write.
    pub apart: bool,
}

fn show_rule<S: Serializer>(rule: &Rule, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(rule)
}

fn read_rule<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rule, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

/// What a worker says of a service's limits and of what it does at once, at its start and at every change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// Service and credential in braces: what every key of its buckets begins with.
    pub tag: String,
    /// Whose limits and headers, for example `github`.
    pub provider: String,
    /// The limits by name.
    pub limits: BTreeMap<String, InForce>,
    /// The models that the service asks, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: Models,
    /// What may be spent in a day; `None` where nothing bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// What happens while Redis is away: `stop` or `share`.
    pub away: String,
    /// How far ahead calls are booked, milliseconds.
    pub ahead: u64,
    /// Events of the service in flight at once in this worker; 0 when it does not tell.
    #[serde(default)]
    pub concurrency: u32,
    /// Longest time of an attempt, milliseconds; 0 when it does not tell.
    #[serde(default)]
    pub timeout: u64,
    /// For how long an answer of the service's API stays in the cache without being asked for, milliseconds; 0 where none
    /// does, or the worker does not tell.
    #[serde(default)]
    pub cache: u64,
    /// When this was said, milliseconds since the Unix epoch.
    pub at: u64,
    /// Who says so.
    pub worker: String,
    /// Revision of the wishes that this answers; 0 when there were none.
    pub set: u64,
    /// Why these wishes are not in force; `None` when they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What a service may spend in a day (UTC), in nano-dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// What the keys of its sums begin with: `<tag>:day` and `<tag>:tenant:<tenant>`.
    pub tag: String,
    /// The service; `None` where nothing bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<u64>,
    /// Each tenant, those without a name as one; `None` where nothing bounds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<u64>,
}

/// Models by name.
pub type Models = BTreeMap<String, Model>;

/// A model that a service asks, under limits of its own. Those stand in the settings alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Whose it is and its id there, for example `openai:gpt-5-mini`.
    pub id: String,
    /// Where it is asked.
    pub url: String,
    /// Service, model and credential in braces: what every key of its buckets begins with.
    pub tag: String,
    /// Whose limits and headers, for example `openai`.
    pub provider: String,
    /// Its limits by name.
    pub limits: BTreeMap<String, InForce>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_read_as_they_were_written() {
        let text = r#"{"content":{"shadow":true},"points":{"rule":null,"shadow":false},"requests":{"rule":"10 per minute, burst 1","shadow":false}}"#;
        let wishes = read(text.as_bytes()).unwrap();
        assert_eq!(
            wishes["content"],
            Wish {
                rule: Wished::AsSet,
                shadow: true
            }
        );
        assert_eq!(wishes["points"].rule, Wished::Gone);
        assert_eq!(
            wishes["requests"].rule,
            Wished::Rule("10 per minute, burst 1".parse().unwrap())
        );
        assert_eq!(serde_json::to_string(&wishes).unwrap(), text);
    }

    #[test]
    fn wishes_that_make_no_sense_are_refused() {
        let many = (0..=MAX_NAMES).map(|n| (format!("n{n}"), Wish::default()));
        let many = serde_json::to_string(&many.collect::<Wishes>()).unwrap();
        let long = " ".repeat(MAX_BYTES + 1);
        for (bad, why) in [
            ("", "EOF"),
            ("[]", "expected a map"),
            (r#"{"a":{"rule":"lots"}}"#, "is no limit"),
            (r#"{"a":{"rule":7}}"#, "expected a string"),
            (r#"{"a":{"shadow":1}}"#, "expected a boolean"),
            (r#"{"a":{"rul":null}}"#, "unknown field"),
            (r#"{"a b":{}}"#, "is no name"),
            (&many, "more than 64 limits"),
            (&long, "more than 65536 bytes"),
        ] {
            let said = read(bad.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
