//! What is asked of the past, as it stands in a URL.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::SystemTime;

use shared::event::Tenant;
use shared::store::history::{Filter, MOST_ROWS, ROWS, instant};
use shared::store::report::MOST_HOURS;
use shared::subject::Service;

/// Longest query.
const LONGEST: usize = 4096;
/// Most services of one question.
const SERVICES: usize = 50;
/// Hours of a report where nobody says how many.
const HOURS: u16 = 24;

/// A page of events.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) filter: Filter,
    pub(super) cursor: Option<String>,
    pub(super) limit: u16,
}

impl List {
    pub(super) fn read(query: &str, now: SystemTime) -> Result<Self, String> {
        const KNOWN: &[&str] = &[
            "service", "state", "tenant", "from", "to", "attempts", "cursor", "limit",
        ];
        let mut given = given(query, KNOWN)?;
        let filter = Filter {
            services: service_list(given.remove("service"))?,
            state: parsed(&mut given, "state", str::parse)?,
            tenant: parsed(&mut given, "tenant", |text| {
                Tenant::new(text).map_err(|e| e.to_string())
            })?,
            from_us: parsed(&mut given, "from", |text| instant(text, now))?,
            to_us: parsed(&mut given, "to", |text| instant(text, now))?,
            attempts: parsed(&mut given, "attempts", boolean)?.unwrap_or(false),
        };
        if let (Some(from), Some(to)) = (filter.from_us, filter.to_us)
            && from >= to
        {
            return Err("from is not before to".into());
        }
        Ok(Self {
            filter,
            cursor: given.remove("cursor"),
            limit: parsed(&mut given, "limit", |text| within(text, MOST_ROWS))?.unwrap_or(ROWS),
        })
    }
}

/// A report.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hours {
    pub(super) hours: u16,
    pub(super) services: Vec<Service>,
}

impl Hours {
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let mut given = given(query, &["service", "hours"])?;
        Ok(Self {
            hours: parsed(&mut given, "hours", |text| within(text, MOST_HOURS))?.unwrap_or(HOURS),
            services: service_list(given.remove("service"))?,
        })
    }
}

/// The services that a question about one event names.
pub(super) fn services(query: &str) -> Result<Vec<Service>, String> {
    service_list(given(query, &["service"])?.remove("service"))
}

/// The parameters, each once, none that means nothing here.
fn given(query: &str, known: &[&str]) -> Result<BTreeMap<String, String>, String> {
    if query.len() > LONGEST {
        return Err(format!("the query is longer than {LONGEST} bytes"));
    }
    let mut given = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !known.contains(&&*name) {
            let name: String = name.chars().take(40).collect();
            return Err(format!(
                "{name:?} is no parameter: there are {}",
                known.join(", ")
            ));
        }
        if given.insert(name.to_string(), value.into_owned()).is_some() {
            return Err(format!("{name} stands there twice"));
        }
    }
    Ok(given)
}

fn parsed<T>(
    given: &mut BTreeMap<String, String>,
    name: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let text = given.remove(name);
    let value = text.map(|text| read(&text)).transpose();
    value.map_err(|what| format!("{name}: {}", what.chars().take(300).collect::<String>()))
}

fn service_list(text: Option<String>) -> Result<Vec<Service>, String> {
    let text = text.unwrap_or_default();
    let names: Vec<&str> = text.split(',').filter(|name| !name.is_empty()).collect();
    if names.len() > SERVICES {
        return Err(format!("service: more than {SERVICES} of them"));
    }
    let mut services = Vec::new();
    for name in names {
        let service = Service::new(name).map_err(|why| format!("service: {why}"))?;
        if !services.contains(&service) {
            services.push(service);
        }
    }
    Ok(services)
}

fn boolean(text: &str) -> Result<bool, String> {
    bool::from_str(text).map_err(|_| format!("{text:?} is not true or false"))
}

fn within(text: &str, most: u16) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("{text:?} is no number from 1 to {most}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::{Duration, UNIX_EPOCH};

    use shared::store::history::State;

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_248_000)
    }

    #[test]
    fn a_question_is_read() {
        assert_eq!(
            List::read("", now()).unwrap(),
            List {
                filter: Filter::default(),
                cursor: None,
                limit: 50
            }
        );
        let query = "service=github,slack,github&state=dead&tenant=acme&from=2h&to=2026-11-21T08%3A00%3A00Z&limit=500&cursor=abc";
        let list = List::read(query, now()).unwrap();
        assert_eq!(list.filter.services.len(), 2);
        assert_eq!(list.filter.state, Some(State::Dead));
        assert_eq!(
            list.filter.to_us.unwrap() - list.filter.from_us.unwrap(),
            7_200_000_000
        );
        assert_eq!((list.limit, list.cursor.as_deref()), (500, Some("abc")));
        assert_eq!(Hours::read("hours=168").unwrap().hours, 168);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = format!("cursor={}", "x".repeat(5_000));
        let many = format!(
            "service={}",
            (0..51).map(|n| format!("s{n}")).collect::<Vec<_>>().join(",")
        );
        for (query, says) in [
            (
                "servise=github",
                "\"servise\" is no parameter: there are service, state",
            ),
            ("state=done&state=dead", "state stands there twice"),
            ("state=gone", "state: \"gone\" is not done, dead or failed"),
            ("service=GitHub", "service: "),
            (&many, "service: more than 50"),
            ("tenant=a%20b", "tenant: "),
            ("from=yesterday", "from: \"yesterday\" is no time"),
            ("from=1h&to=2h", "from is not before to"),
            ("limit=0", "limit: \"0\" is no number from 1 to 500"),
            ("limit=501", "limit: "),
            ("attempts=yes", "attempts: \"yes\" is not true or false"),
            (&long, "longer than 4096"),
        ] {
            let what = List::read(query, now()).unwrap_err();
            assert!(what.contains(says), "{query}: {what}");
        }
        assert!(Hours::read("hours=169").unwrap_err().contains("from 1 to 168"));
        assert!(services("limit=5").unwrap_err().contains("there are service"));
    }
}
