//! Whom tokens are asked for with a key: a GitHub App's installation, a service account of Google.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header;
use reqwest::{Client, Request, Url};
use ring::signature::RsaKeyPair;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::config::Reader;
use shared::failure::Failure;
use shared::telemetry::propagation::millis;

use super::jwt;
use crate::outbound::{Answer, classify};

/// What GitHub allows a token of an App to last, ten minutes, with room for clocks that differ. Source: GitHub,
/// generating a JSON Web Token for a GitHub App.
const APP_TOKEN: Duration = Duration::from_secs(540);
/// So far back an App's token begins, for the same reason.
const APP_BACKDATED: Duration = Duration::from_secs(60);
/// The most that Google allows an assertion. Source: Google, using OAuth 2.0 for server to server applications.
const ASSERTION: Duration = Duration::from_secs(3600);
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Who is given tokens.
pub struct Mint {
    key: RsaKeyPair,
    /// Hash of the key, in hexadecimal.
    lasting: String,
    kind: Kind,
}

enum Kind {
    App { id: String, installation: String },
    Account(Account),
}

/// A service account, as the file that Google gives for it says.
#[derive(Debug, Clone, Deserialize)]
struct Account {
    client_email: String,
    private_key_id: Option<String>,
    token_uri: String,
    #[serde(skip)]
    scopes: String,
    #[serde(skip)]
    subject: Option<String>,
}

/// Reads `_APP_ID`, `_APP_INSTALLATION` and `_APP_KEY` (PEM) of a GitHub App; `None` without them.
pub fn app(reader: &mut Reader<'_>, prefix: &str) -> Option<Mint> {
    let names = ["APP_ID", "APP_INSTALLATION", "APP_KEY"].map(|name| format!("{prefix}_{name}"));
    let [id, installation, key] = &names;
    let given = [
        reader.optional(id),
        reader.optional(installation),
        reader.secret(key),
    ];
    if given.iter().all(Option::is_none) {
        return None;
    }
    for (name, value) in names.iter().zip(&given) {
        if value.is_none() && !reader.has_problem(name) {
            reader.problem(
                name,
                "is missing: a GitHub App has an id, an installation and a key",
            );
        }
    }
    let [app, at, pem] = given;
    if let Some(at) = &at
        && !at.bytes().all(|b| b.is_ascii_digit())
    {
        reader.problem(installation, "is no number");
    }
    let pem = pem?;
    let kind = Kind::App {
        id: app?,
        installation: at?,
    };
    mint(reader, key, &pem, kind)
}

/// Reads `_ACCOUNT`, the JSON file of a service account of Google, with `_SCOPES` (separated by blanks) and `_SUBJECT`,
/// in whose name it acts; `None` without it.
pub fn service_account(reader: &mut Reader<'_>, prefix: &str, scopes: &str) -> Option<Mint> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "type")]
        kind: String,
        private_key: String,
        #[serde(flatten)]
        account: Account,
    }
    let name = format!("{prefix}_ACCOUNT");
    let text = reader.secret(&name);
    let scopes = reader.text(&format!("{prefix}_SCOPES"), scopes);
    let subject = reader.optional(&format!("{prefix}_SUBJECT"));
    let Ok(file) = serde_json::from_str::<File>(&text?) else {
        reader.problem(&name, "is no JSON file of a service account");
        return None;
    };
    let url = Url::parse(&file.account.token_uri);
    if file.kind != "service_account" || !url.is_ok_and(|url| url.has_host()) {
        reader.problem(&name, "is no JSON file of a service account with its token_uri");
        return None;
    }
    let account = Account {
        scopes,
        subject,
        ..file.account
    };
    mint(reader, &name, &file.private_key, Kind::Account(account))
}

fn mint(reader: &mut Reader<'_>, name: &str, pem: &str, kind: Kind) -> Option<Mint> {
    match jwt::key(pem) {
        Ok(key) => Some(Mint {
            key,
            lasting: hex::encode(Sha256::digest(pem.trim())),
            kind,
        }),
        Err(what) => {
            reader.problem(name, what);
            None
        }
    }
}

impl Mint {
    /// Whom the provider counts calls for.
    pub fn identity(&self) -> String {
        match &self.kind {
            Kind::App { id, installation } => format!("app:{id}:{installation}"),
            Kind::Account(account) => {
                let subject = account.subject.as_deref().unwrap_or_default();
                format!("account:{}:{subject}", account.client_email)
            }
        }
    }

    /// Where tokens are asked for, where that is not the API itself.
    pub fn url(&self) -> Option<&str> {
        match &self.kind {
            Kind::App { .. } => None,
            Kind::Account(account) => Some(&account.token_uri),
        }
    }

    pub(super) fn lasting(&self) -> &str {
        &self.lasting
    }

    pub(super) fn route(&self) -> &'static str {
        match &self.kind {
            Kind::App { .. } => "/app/installations/{id}/access_tokens",
            Kind::Account(_) => "/token",
        }
    }

    pub(super) fn request(&self, client: &Client, base: &str, now: SystemTime) -> Result<Request, Failure> {
        let signed = |kid: Option<&str>, claims: &Value| {
            jwt::sign(&self.key, kid, claims).map_err(|what| Failure::permanent("credential", what))
        };
        let at = millis(now) / 1000;
        let request = match &self.kind {
            Kind::App { id, installation } => {
                let claims = json!({
                    "iat": at.saturating_sub(APP_BACKDATED.as_secs()),
                    "exp": at + APP_TOKEN.as_secs(),
                    "iss": id,
                });
                client
                    .post(format!("{base}/app/installations/{installation}/access_tokens"))
                    .header(header::ACCEPT, "application/vnd.github+json")
                    .header("x-github-api-version", "2022-11-28")
                    .bearer_auth(signed(None, &claims)?)
            }
            Kind::Account(account) => {
                let mut claims = json!({
                    "iss": account.client_email,
                    "scope": account.scopes,
                    "aud": account.token_uri,
                    "iat": at,
                    "exp": at + ASSERTION.as_secs(),
                });
                if let Some(subject) = &account.subject {
                    claims["sub"] = subject.as_str().into();
                }
                let assertion = signed(account.private_key_id.as_deref(), &claims)?;
                let form = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("grant_type", GRANT)
                    .append_pair("assertion", &assertion)
                    .finish();
                client
                    .post(&account.token_uri)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form)
            }
        };
        request
            .build()
            .map_err(|e| Failure::permanent("credential", e.without_url()))
    }

    /// The token in an answer and how long it is good, by the clock of whoever gave it.
    pub(super) fn read(answer: &Answer, now: SystemTime) -> Result<(Arc<str>, Duration), String> {
        #[derive(Deserialize)]
        struct Given {
            #[serde(alias = "access_token")]
            token: Arc<str>,
            expires_at: Option<String>,
            expires_in: Option<u64>,
        }
        let given: Given = serde_json::from_slice(&answer.body)
            // Where in the text it is no such thing, and nothing of the text.
            .map_err(|e| format!("line {}, column {}", e.line(), e.column()))?;
        if given.token.is_empty() || !given.token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("it is empty or no text for a header".into());
        }
        let now = classify::date(&answer.headers).unwrap_or(now);
        let until = |text: &String| {
            let at =
                time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
            Some(SystemTime::from(at).duration_since(now).unwrap_or_default())
        };
        let life = match (&given.expires_at, given.expires_in) {
            (Some(at), _) => until(at).ok_or("its end is no time")?,
            (None, Some(seconds)) => Duration::from_secs(seconds),
            (None, None) => return Err("its end is missing".into()),
        };
        Ok((given.token, life))
    }
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identity())
    }
}
