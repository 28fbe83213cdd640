//! Who may ask over HTTP: bearer tokens, kept as SHA-256 and compared in constant time.

use std::fmt;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::value::list;
use crate::subject::Service;

/// Longest name of a token. It becomes part of event ids.
pub const MAX_NAME: usize = 32;

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The request brings no token.
    #[error("header Authorization must be `Bearer <token>`")]
    Missing,
    /// It is none of ours.
    #[error("the bearer token is not known here")]
    Unknown,
    /// It is for other services.
    #[error("the token {0:?} is not for service {1}")]
    OtherService(Box<str>, Service),
}

/// One token.
#[derive(Clone)]
pub struct Token {
    name: Box<str>,
    hash: [u8; 32],
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    All,
    Only(Vec<Service>),
}

impl Token {
    /// Its name, for ids and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refuses a service that the token is not for.
    pub fn check(&self, service: &Service) -> Result<(), NotAllowed> {
        match &self.scope {
            Scope::All => Ok(()),
            Scope::Only(services) if services.contains(service) => Ok(()),
            Scope::Only(_) => Err(NotAllowed::OtherService(self.name.clone(), service.clone())),
        }
    }

    /// The services it names, none when it is for all.
    pub fn services(&self) -> &[Service] {
        match &self.scope {
            Scope::All => &[],
            Scope::Only(services) => services,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***:", self.name)?;
        match &self.scope {
            Scope::All => f.write_str("*"),
            Scope::Only(services) => {
                let names: Vec<_> = services.iter().map(Service::as_str).collect();
                f.write_str(&names.join("+"))
            }
        }
    }
}

/// All tokens.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Vec<Token>);

impl Tokens {
    /// Reads `name:sha256hex:svc+svc` and `name:sha256hex:*`, separated by commas. What is wrong is told by the
    /// token's place and name, never by its text: somebody may have put the token itself there.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut problems = Vec::new();
        for (at, part) in list(text).iter().enumerate() {
            match token(part) {
                Ok(token) if tokens.iter().any(|other| other.name == token.name) => {
                    problems.push(format!("entry {} repeats the name {:?}", at + 1, token.name));
                }
                Ok(token) => tokens.push(token),
                Err(what) => problems.push(format!("entry {} {what}", at + 1)),
            }
        }
        if problems.is_empty() {
            Ok(Self(tokens))
        } else {
            Err(problems.join("; "))
        }
    }

    /// Whether there are none, so that nobody is let in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tokens.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.iter()
    }

    /// The token that a request brings.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<&Token, NotAllowed> {
        let value = headers.get(header::AUTHORIZATION).ok_or(NotAllowed::Missing)?;
        let presented = match value.as_bytes().split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token.trim_ascii(),
            _ => return Err(NotAllowed::Missing),
        };
        let hash: [u8; 32] = Sha256::digest(presented).into();
        // Every token is compared, so that the time taken tells nothing about which one was near.
        let mut found = None;
        for token in &self.0 {
            if bool::from(token.hash.ct_eq(&hash)) {
                found = Some(token);
            }
        }
        found.ok_or(NotAllowed::Unknown)
    }
}

fn token(text: &str) -> Result<Token, String> {
    const FORM: &str = "is not `name:sha256hex:service+service` or `name:sha256hex:*`";
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(hash), Some(scope)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(FORM.into());
    };
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(fits) {
        return Err(format!(
            "has a name that is not 1 to {MAX_NAME} of A-Z a-z 0-9 _ -"
        ));
    }
    let mut digest = [0; 32];
    hex::decode_to_slice(hash, &mut digest)
        .map_err(|_| format!("({name}) has a hash that is not the 64 hex digits of a SHA-256"))?;
    if digest == <[u8; 32]>::from(Sha256::digest(b"")) {
        return Err(format!(
            "({name}) has the hash of an empty token, which anybody can send"
        ));
    }
    let scope = match scope {
        "*" => Scope::All,
        names => {
            let services = names.split('+').map(Service::new).collect::<Result<Vec<_>, _>>();
            Scope::Only(services.map_err(|e| format!("({name}) names a service that {e}"))?)
        }
    };
    Ok(Token {
        name: name.into(),
        hash: digest,
        scope,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use axum::http::HeaderValue;

    use super::*;

    fn hash(token: &str) -> String {
        hex::encode(Sha256::digest(token))
    }

    fn with(authorization: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(authorization))])
    }

    #[test]
    fn tokens_are_found_and_scoped() {
        let text = format!("ci:{}:github+http, ops:{}:*", hash("a-token"), hash("b-token"));
        let tokens = Tokens::read(&text).unwrap();
        let ci = tokens.authenticate(&with("Bearer a-token")).unwrap();
        assert_eq!(ci.name(), "ci");
        ci.check(&Service::new("http").unwrap()).unwrap();
        let slack = Service::new("slack").unwrap();
        assert_eq!(
            ci.check(&slack),
            Err(NotAllowed::OtherService("ci".into(), slack))
        );
        let ops = tokens.authenticate(&with("bearer  b-token")).unwrap();
        ops.check(&Service::new("slack").unwrap()).unwrap();
        for (header, why) in [
            ("Bearer a-toke", NotAllowed::Unknown),
            ("Bearer ", NotAllowed::Unknown),
            ("Basic a-token", NotAllowed::Missing),
            ("", NotAllowed::Missing),
        ] {
            assert_eq!(tokens.authenticate(&with(header)).unwrap_err(), why, "{header:?}");
        }
        assert_eq!(
            tokens.authenticate(&HeaderMap::new()).unwrap_err(),
            NotAllowed::Missing
        );
        assert!(!format!("{tokens:?}").contains(&hash("a-token")));
    }

    #[test]
    fn wrong_entries_are_told_without_their_text() {
        let good = hash("x");
        let text = format!(
            "hunter2,a:short:*,b:{good}:UPPER,c d:{good}:*,e:{good}:*,e:{good}:*,f:{}:*",
            hash("")
        );
        let problems = Tokens::read(&text).unwrap_err();
        for part in [
            "entry 1 is not",
            "entry 2 (a)",
            "entry 3 (b)",
            "entry 4 has a name",
            "entry 6 repeats",
            "entry 7 (f) has the hash of an empty token",
        ] {
            assert!(problems.contains(part), "{problems}");
        }
        assert!(!problems.contains("hunter2"));
    }
}
