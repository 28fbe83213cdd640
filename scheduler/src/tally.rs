//! Messages of a stream counted by service. The server names subjects in pages of 100,000, and with a subject for each
//! retry there are many: every page is added up as it is read, and nothing of it is kept.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use async_nats::jetstream;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use shared::subject::Service;

/// Most pages of one count: a stream that grows while it is counted must not keep us for ever.
const MOST_PAGES: usize = 1_000;

/// Why a stream's messages cannot be counted.
#[derive(Debug, thiserror::Error)]
pub enum TallyError {
    /// The server did not answer.
    #[error(transparent)]
    Request(#[from] async_nats::client::RequestError),
    /// It did, and the answer is none of this kind.
    #[error("its subjects make no sense: {0}")]
    Answer(#[from] serde_json::Error),
    /// It says that it cannot tell.
    #[error("{description} (code {code})")]
    Refused {
        /// The HTTP-like code.
        code: u16,
        /// In words.
        description: String,
    },
    /// It never comes to an end.
    #[error("more than {MOST_PAGES} pages of subjects")]
    Endless,
}

/// An answer of `STREAM.INFO`, as far as it is of use here (NATS API schema `stream_info_response`).
#[derive(Deserialize)]
struct Page<'a> {
    error: Option<Refusal>,
    /// Subjects in all.
    #[serde(default)]
    total: usize,
    #[serde(borrow)]
    state: Option<State<'a>>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u16,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct State<'a> {
    messages: u64,
    /// Left unread until it is added up; missing where there is none.
    #[serde(borrow)]
    subjects: Option<&'a RawValue>,
}

/// Messages of the stream `name` under subjects that begin with one of `prefixes`, by service, which is the token after
/// them. What is of none of these services is not counted.
///
/// # Errors
/// The server does not answer, or not as it should.
pub async fn tally(
    js: &jetstream::Context,
    name: &str,
    prefixes: &[&str],
    services: &[Service],
) -> Result<HashMap<Service, u64>, TallyError> {
    let mut counts: HashMap<&str, u64> = services.iter().map(|service| (service.as_str(), 0)).collect();
    let (client, mut offset) = (js.client(), 0);
    for _ in 0..MOST_PAGES {
        let question = format!(r#"{{"subjects_filter":">","offset":{offset}}}"#);
        let answer = client
            .request(format!("$JS.API.STREAM.INFO.{name}"), question.into())
            .await?;
        let page: Page<'_> = serde_json::from_slice(&answer.payload)?;
        if let Some(Refusal { code, description }) = page.error {
            return Err(TallyError::Refused { code, description });
        }
        let subjects = page
            .state
            .filter(|state| state.messages > 0)
            .and_then(|state| state.subjects);
        let told = match subjects {
            None => 0,
            Some(subjects) => {
                let sum = Sum {
                    counts: &mut counts,
                    prefixes,
                };
                sum.deserialize(&mut serde_json::Deserializer::from_str(subjects.get()))?
            }
        };
        offset += told;
        if told == 0 || offset >= page.total {
            let of = |service: &Service| (service.clone(), counts[service.as_str()]);
            return Ok(services.iter().map(of).collect());
        }
    }
    Err(TallyError::Endless)
}

/// Adds up a map of subjects to messages; tells how many subjects there were.
struct Sum<'c, 's> {
    counts: &'c mut HashMap<&'s str, u64>,
    prefixes: &'c [&'c str],
}

#[derive(Deserialize)]
struct Subject<'a>(#[serde(borrow)] Cow<'a, str>);

impl Sum<'_, '_> {
    fn add(&mut self, subject: &str, messages: u64) {
        let below = |prefix: &&str| subject.strip_prefix(*prefix)?.strip_prefix('.');
        let service = self
            .prefixes
            .iter()
            .find_map(below)
            .and_then(|rest| rest.split('.').next());
        if let Some(count) = service.and_then(|service| self.counts.get_mut(service)) {
            *count = count.saturating_add(messages);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Sum<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sum<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("subjects and how many messages each has")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<usize, A::Error> {
        let mut told = 0;
        while let Some((Subject(subject), messages)) = map.next_entry()? {
            self.add(&subject, messages);
            told += 1;
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::*;

    #[test]
    fn subjects_are_added_up_by_service_and_strangers_are_not() {
        let mut counts = HashMap::from([("github", 0), ("a", 0)]);
        let sum = Sum {
            counts: &mut counts,
            prefixes: &["retry.sched", "retry.due"],
        };
        let page = r#"{"retry.sched.github.1":1,"retry.sched.github.2":4,"retry.due.github.low":2,
            "retry.sched.git\u0068ub.3":1,"retry.sched.githubs.1":9,"retry.schedgithub":9,"retry.sched":9,"x.github.1":9,
            "retry.due.a":18446744073709551615,"retry.due.a.low":1}"#;
        let told = sum
            .deserialize(&mut serde_json::Deserializer::from_str(page))
            .unwrap();
        assert_eq!((told, counts["github"], counts["a"]), (10, 8, u64::MAX));
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for bad in ["[]", r#"{"a":-1}"#, r#"{"a":"1"}"#, r#"{"a":1"#] {
            let sum = Sum {
                counts: &mut HashMap::new(),
                prefixes: &[],
            };
            sum.deserialize(&mut serde_json::Deserializer::from_str(bad))
                .unwrap_err();
        }
    }
}
