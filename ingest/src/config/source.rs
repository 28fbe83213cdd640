//! The settings of one webhook source.

use std::time::Duration;

use http::HeaderName;
use shared::config::{Fleet, Reader};
use shared::event::Priority;
use shared::limiter::Limit;
use shared::subject::Service;

use crate::verify::hmac::{Encoding, Generic, Template};
use crate::verify::{Keys, Scheme};

/// A webhook source.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name, the last part of its route and the first of its events' ids.
    pub name: String,
    /// Which service gets its events.
    pub service: Service,
    /// How it signs.
    pub scheme: Scheme,
    /// How many requests this process takes from it.
    pub limit: Option<Limit>,
    /// How urgent its events are.
    pub priority: Priority,
}

/// Reads `WEIR_SOURCES` and the settings of each.
pub(super) fn read(reader: &mut Reader<'_>, fleet: &Fleet) -> Vec<Source> {
    // A source's name follows the rules of a service's: it stands in settings, routes and ids.
    let names = reader.list("WEIR_SOURCES", "", |name| {
        Service::new(name).map_err(|e| e.to_string())
    });
    names.iter().map(|name| source(reader, fleet, name)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Github,
    Slack,
    Hmac,
    /// Not said, or not readable: told already, and read on for what else is wrong.
    Wrong,
}

fn source(reader: &mut Reader<'_>, fleet: &Fleet, name: &Service) -> Source {
    let prefix = format!(
        "WEIR_SOURCE_{}",
        name.as_str().to_ascii_uppercase().replace('-', "_")
    );
    let setting = |suffix: &str| format!("{prefix}_{suffix}");
    let kind = match reader.optional(&setting("KIND")).as_deref() {
        Some("github") => Kind::Github,
        Some("slack") => Kind::Slack,
        Some("hmac") => Kind::Hmac,
        Some(other) => {
            reader.problem(
                &setting("KIND"),
                format!("is {other:?}: must be github, slack or hmac"),
            );
            Kind::Wrong
        }
        None => {
            reader.problem(&setting("KIND"), "is missing: must be github, slack or hmac");
            Kind::Wrong
        }
    };
    let keys = keys(reader, &setting("SECRETS"));
    let service = reader.with(
        &setting("SERVICE"),
        name.clone(),
        |text| Service::new(text).map_err(|e| e.to_string()),
        Service::to_string,
    );
    if !fleet.services.contains(&service) {
        let what = format!("is {service}, which is not in WEIR_SERVICES");
        reader.problem(&setting("SERVICE"), what);
    }
    let limit = reader.with(
        &setting("LIMIT"),
        None,
        |text| text.parse().map(Some),
        |limit: &Option<Limit>| limit.map(|l| l.to_string()).unwrap_or_default(),
    );
    let priority = u64::from(Priority::default().get());
    let priority = Priority::new(reader.number(&setting("PRIORITY"), priority, 1..=10)).unwrap_or_default();
    let scheme = match kind {
        Kind::Github => Scheme::Github(keys),
        Kind::Slack => Scheme::Slack(keys),
        Kind::Hmac | Kind::Wrong => generic(reader, &setting, keys, kind == Kind::Hmac),
    };
    Source {
        name: name.to_string(),
        service,
        scheme,
        limit,
        priority,
    }
}

fn keys(reader: &mut Reader<'_>, name: &str) -> Keys {
    let text = reader.secret(name).unwrap_or_default();
    // A mounted file may hold one secret a line.
    let secrets: Vec<&str> = text
        .split([',', '\n'])
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .collect();
    if secrets.is_empty() {
        reader.problem(name, "is missing: without a secret nothing can be verified");
    }
    Keys::new(&secrets)
}

fn generic(reader: &mut Reader<'_>, setting: &dyn Fn(&str) -> String, keys: Keys, required: bool) -> Scheme {
    let second = Duration::from_secs(1);
    let mut header = |suffix: &str| {
        let parse = |text: &str| match HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) => Ok(Some(name)),
            Err(_) => Err(format!("{text:?} is no header name")),
        };
        let show = |name: &Option<HeaderName>| name.as_ref().map(HeaderName::to_string).unwrap_or_default();
        reader.with(&setting(suffix), None, parse, show)
    };
    let signature = header("HEADER");
    let (timestamp, id, kind) = (
        header("TIMESTAMP_HEADER"),
        header("ID_HEADER"),
        header("TYPE_HEADER"),
    );
    if required && signature.is_none() {
        reader.problem(&setting("HEADER"), "is missing: the header with the signature");
    }
    let encoding = reader.parsed(&setting("ENCODING"), Encoding::default());
    let prefix = reader.text(&setting("PREFIX"), "");
    let signed: Template = reader.parsed(&setting("SIGNED"), Template::default());
    let tolerance = reader.duration(&setting("TOLERANCE"), second * 300, second..=second * 86_400);
    if signed.has_timestamp() != timestamp.is_some() {
        let what = if timestamp.is_some() {
            "must hold {timestamp}: a time that is not signed keeps no replay out"
        } else {
            "holds {timestamp}, and no TIMESTAMP_HEADER says where it is"
        };
        reader.problem(&setting("SIGNED"), what);
    }
    if signed.has_id() && id.is_none() {
        reader.problem(
            &setting("SIGNED"),
            "holds {id}, and no ID_HEADER says where it is",
        );
    }
    Scheme::Hmac(Box::new(Generic {
        keys,
        header: signature.unwrap_or(HeaderName::from_static("x-signature")),
        encoding,
        prefix,
        signed,
        timestamp: timestamp.map(|name| (name, tolerance)),
        id,
        kind,
    }))
}
