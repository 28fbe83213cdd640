//! The settings of one webhook source.

use std::time::Duration;

use http::HeaderName;
use shared::config::{Fleet, Reader};
use shared::limiter::Limit;
use shared::subject::Service;

use crate::accept::place::{Field, Overrides, Places};
use crate::verify::hmac::{Encoding, Generic, Template};
use crate::verify::{Keys, Scheme, gitlab, standard};

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
    /// Which fields of its events are taken from elsewhere than its kind says.
    pub overrides: Overrides,
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
    Gitlab,
    Linear,
    Slack,
    Stripe,
    Standard,
    Hmac,
}

/// The kinds by their names.
const KINDS: [(&str, Kind); 7] = [
    ("github", Kind::Github),
    ("gitlab", Kind::Gitlab),
    ("linear", Kind::Linear),
    ("slack", Kind::Slack),
    ("stripe", Kind::Stripe),
    ("standard", Kind::Standard),
    ("hmac", Kind::Hmac),
];

/// The names of all kinds.
#[cfg(test)]
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

/// The kind, or `None` where it is not said or not known: that is told, and what else is wrong is looked for.
fn kind(reader: &mut Reader<'_>, name: &str) -> Option<Kind> {
    let said = reader.optional(name);
    let kind = KINDS.iter().find(|(known, _)| said.as_deref() == Some(known));
    if kind.is_none() {
        let known = KINDS.map(|(known, _)| known).join(", ");
        match said {
            Some(other) => reader.problem(name, format!("is {other:?}: must be one of {known}")),
            None => reader.problem(name, format!("is missing: must be one of {known}")),
        }
    }
    kind.map(|(_, kind)| *kind)
}

fn source(reader: &mut Reader<'_>, fleet: &Fleet, name: &Service) -> Source {
    let prefix = format!(
        "WEIR_SOURCE_{}",
        name.as_str().to_ascii_uppercase().replace('-', "_")
    );
    let setting = |suffix: &str| format!("{prefix}_{suffix}");
    let kind = kind(reader, &setting("KIND"));
    let secrets = secrets(reader, &setting("SECRETS"));
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
    let overrides = Field::ALL.map(|field| {
        let read = |text: &str| Places::read(text, field);
        reader.with(
            &setting(field.setting()),
            Places::own(field),
            read,
            Places::to_string,
        )
    });
    let keys = || Keys::new(&secrets);
    let scheme = match kind {
        Some(Kind::Github) => Ok(Scheme::Github(keys())),
        Some(Kind::Gitlab) => gitlab::Secrets::read(&secrets).map(Scheme::Gitlab),
        Some(Kind::Linear) => Ok(Scheme::Linear(keys())),
        Some(Kind::Slack) => Ok(Scheme::Slack(keys())),
        Some(Kind::Stripe) => Ok(Scheme::Stripe(keys())),
        Some(Kind::Standard) => standard::Secrets::read(&secrets).map(Scheme::Standard),
        Some(Kind::Hmac) | None => Ok(generic(reader, &setting, keys(), kind.is_some())),
    };
    let scheme = scheme.unwrap_or_else(|what| {
        reader.problem(&setting("SECRETS"), format!("cannot be read: {what}"));
        // Never used: a configuration with a problem is none.
        Scheme::Github(keys())
    });
    Source {
        name: name.to_string(),
        service,
        scheme,
        limit,
        overrides: Overrides::new(overrides),
    }
}

fn secrets(reader: &mut Reader<'_>, name: &str) -> Vec<String> {
    let text = reader.secret(name).unwrap_or_default();
    // A mounted file may hold one secret a line.
    let secrets = text.split([',', '\n']).map(str::trim).filter(|s| !s.is_empty());
    let secrets: Vec<String> = secrets.map(str::to_owned).collect();
    if secrets.is_empty() {
        reader.problem(name, "is missing: without a secret nothing can be verified");
    }
    secrets
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
