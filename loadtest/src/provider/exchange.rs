//! One request as the APIs look at it, and one answer before it is sent.

use std::{borrow::Cow, fmt::Display};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use super::{github::APP_TOKEN, ledger::fingerprint};

/// Headers an event's id is taken from, the first present one.
const ID_HEADERS: [&str; 3] = ["webhook-id", "weir-event-id", "idempotency-key"];

/// A whole request.
#[derive(Debug)]
pub struct Ask {
    /// HTTP method.
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// Query without its `?`, empty when there is none.
    pub query: String,
    /// All headers.
    pub headers: HeaderMap,
    /// Body as it came.
    pub body: Bytes,
}

impl Ask {
    /// A header's text, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The credential behind `Bearer` or `token`.
    pub fn credential(&self) -> Option<&str> {
        let (scheme, credential) = self.header("authorization")?.split_once(' ')?;
        let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
        Some(credential.trim()).filter(|text| known && !text.is_empty())
    }

    /// Hash of the credential, 0 without one. All tokens of one installation of a GitHub App are one.
    pub fn scope(&self) -> u64 {
        let lasting = |token: &str| match token.strip_prefix(APP_TOKEN) {
            Some(rest) => fingerprint(rest.split('_').next().unwrap_or_default()),
            None => fingerprint(token),
        };
        self.credential().map_or(0, lasting)
    }

    /// The event this call is made for, if the caller told.
    pub fn event_id(&self) -> Option<&str> {
        ID_HEADERS
            .iter()
            .find_map(|name| self.header(name))
            .filter(|id| !id.is_empty())
    }

    /// One parameter from a JSON body, a form body or the query, as Slack takes them.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let json = self
            .header("content-type")
            .is_some_and(|kind| kind.contains("json"));
        if json {
            let body: Value = serde_json::from_slice(&self.body).ok()?;
            return match body.get(name)? {
                Value::String(text) => Some(text.clone()),
                plain @ (Value::Bool(_) | Value::Number(_)) => Some(plain.to_string()),
                _ => None,
            };
        }
        pair(&self.body, name).or_else(|| self.in_query(name))
    }

    /// One parameter from the query.
    pub fn in_query(&self, name: &str) -> Option<String> {
        pair(self.query.as_bytes(), name)
    }
}

fn pair(form: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(form)
        .find(|(key, _)| key == name)
        .map(|(_, value): (Cow<'_, str>, _)| value.into_owned())
}

/// An answer before it is sent.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers beside the content type.
    pub headers: HeaderMap,
    /// Body, empty for 204 and 304.
    pub body: Bytes,
    /// False when the API did nothing, whatever the status: Slack says so with a 200.
    pub effect: bool,
}

impl Reply {
    /// A JSON answer with an effect.
    pub fn json(status: StatusCode, body: &Value) -> Self {
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_static("application/json; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, kind);
        Self {
            status,
            headers,
            body: body.to_string().into(),
            effect: true,
        }
    }

    /// An answer without a body, with an effect.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            effect: true,
        }
    }

    /// The same answer, told as one without effect.
    #[must_use]
    pub fn rejected(mut self) -> Self {
        self.effect = false;
        self
    }

    /// Adds a header; a value that cannot be one is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Display) -> Self {
        if let Ok(value) = HeaderValue::from_str(&format!("{value}")) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }
}

#[cfg(test)]
pub(super) fn ask(method: Method, path: &str, headers: &[(&'static str, &str)], body: &str) -> Ask {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            map.insert(HeaderName::from_static(name), value);
        }
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let body = Bytes::copy_from_slice(body.as_bytes());
    Ask {
        method,
        path: path.into(),
        query: query.into(),
        headers: map,
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_from_json_form_or_query() {
        let json = [("content-type", "application/json; charset=utf-8")];
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let channel = |ask: Ask| ask.parameter("channel");
        assert_eq!(
            channel(ask(Method::POST, "/a", &json, r#"{"channel":"C1"}"#)).as_deref(),
            Some("C1")
        );
        assert_eq!(
            channel(ask(Method::POST, "/a", &form, "text=x&channel=C%202")).as_deref(),
            Some("C 2")
        );
        assert_eq!(
            channel(ask(Method::GET, "/a?channel=C3", &[], "")).as_deref(),
            Some("C3")
        );
        assert_eq!(channel(ask(Method::POST, "/a", &json, "{{{")), None);
    }

    #[test]
    fn the_first_id_header_wins() {
        let both = [("idempotency-key", "b"), ("weir-event-id", "a")];
        assert_eq!(ask(Method::GET, "/", &both, "").event_id(), Some("a"));
        assert_eq!(ask(Method::GET, "/", &[], "").event_id(), None);
    }

    #[test]
    fn credentials_need_a_known_scheme() {
        let with = |value| ask(Method::GET, "/", &[("authorization", value)], "");
        assert_eq!(with("Bearer x").credential(), Some("x"));
        assert_eq!(with("token x").credential(), Some("x"));
        assert_eq!(with("Basic x").credential(), None);
        assert_eq!(with("Bearer ").credential(), None);
    }
}
