//! Who asks, as the API aggregator says it: it proves itself by a client certificate, and tells the user in headers. What
//! certificate and which headers those are stands in a config map that every cluster has.

mod peer;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use self::peer::Peer;

/// The group of everybody who is known.
const AUTHENTICATED: &str = "system:authenticated";
/// Who belongs to neither, and is not made to.
const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// The keys of the config map.
const CA: &str = "requestheader-client-ca-file";
const NAMES: &str = "requestheader-allowed-names";
const USERNAME_HEADERS: &str = "requestheader-username-headers";
const UID_HEADERS: &str = "requestheader-uid-headers";
const GROUP_HEADERS: &str = "requestheader-group-headers";
const EXTRA_PREFIXES: &str = "requestheader-extra-headers-prefix";

/// Somebody whose requests the aggregator passes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct User {
    /// The name.
    pub name: String,
    /// An id that outlives the name; newer clusters tell it.
    pub uid: Option<String>,
    /// Groups, `system:authenticated` among them.
    pub groups: Vec<String>,
    /// What else the cluster's authentication knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why nobody known asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// No client certificate.
    #[error("a client certificate of the API aggregator is required")]
    NoCertificate,
    /// A certificate that the front proxy's CA does not vouch for now.
    #[error("the client certificate is not of the front proxy's CA: {0}")]
    WrongCa(String),
    /// A certificate of the CA with another name than the aggregator's.
    #[error("the client certificate is of the front proxy's CA, but its name is not allowed")]
    WrongName,
    /// The aggregator does not say for whom it asks.
    #[error("no header says for whom the aggregator asks")]
    NoUser,
    /// A header that cannot be read.
    #[error("a header that says for whom the aggregator asks is no UTF-8")]
    Unreadable,
}

/// Why the config map cannot be used. Nobody is known then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A key is not there: the cluster's API server runs without an aggregation layer.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A key cannot be read.
    #[error("{0} cannot be read: {1}")]
    Wrong(&'static str, String),
}

/// What makes a request one of the aggregator.
#[derive(Debug)]
pub struct FrontProxy {
    ca: Arc<dyn ClientCertVerifier>,
    /// Empty where any certificate of the CA will do.
    names: Vec<String>,
    username_headers: Vec<HeaderName>,
    uid_headers: Vec<HeaderName>,
    group_headers: Vec<HeaderName>,
    /// In lower case.
    extra_prefixes: Vec<String>,
}

impl FrontProxy {
    /// Reads the config map `extension-apiserver-authentication`. The CA, the allowed names and the header of the user
    /// must be there; the list of names may be empty, which by the cluster's own rules allows all names.
    pub fn read(data: &BTreeMap<String, String>) -> Result<Self, Unusable> {
        let headers = |key| -> Result<Vec<HeaderName>, Unusable> {
            let names = list(data, key)?.unwrap_or_default();
            let read = |name: &String| {
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| Unusable::Wrong(key, format!("{name:?} is no name of a header")))
            };
            names.iter().map(read).collect()
        };
        let username_headers = headers(USERNAME_HEADERS)?;
        if username_headers.is_empty() {
            return Err(Unusable::Missing(USERNAME_HEADERS));
        }
        let prefixes = list(data, EXTRA_PREFIXES)?.unwrap_or_default();
        if prefixes.iter().any(String::is_empty) {
            return Err(Unusable::Wrong(EXTRA_PREFIXES, "a prefix is empty".into()));
        }
        Ok(Self {
            ca: authority(data)?,
            names: list(data, NAMES)?.ok_or(Unusable::Missing(NAMES))?,
            username_headers,
            uid_headers: headers(UID_HEADERS)?,
            group_headers: headers(GROUP_HEADERS)?,
            extra_prefixes: prefixes
                .iter()
                .map(|prefix| prefix.to_ascii_lowercase())
                .collect(),
        })
    }

    /// Whether any certificate of the CA is taken, whatever its name.
    pub fn takes_any_name(&self) -> bool {
        self.names.is_empty()
    }

    /// Who asks.
    ///
    /// # Errors
    /// Nobody known.
    pub fn identify(
        self: &Arc<Self>,
        peer: &Peer,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<User, Stranger> {
        peer.prove(self, now)?;
        self.user(headers)
    }

    /// Whom these headers name, which is to be believed of the aggregator alone.
    fn user(&self, headers: &HeaderMap) -> Result<User, Stranger> {
        let name = first(headers, &self.username_headers)?.ok_or(Stranger::NoUser)?;
        let mut groups = Vec::new();
        for header in &self.group_headers {
            for value in headers.get_all(header) {
                groups.push(text(value.as_bytes())?.to_owned());
            }
        }
        let placed = groups
            .iter()
            .any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED);
        if name != ANONYMOUS && !placed {
            groups.push(AUTHENTICATED.to_owned());
        }
        let mut extra = BTreeMap::<_, Vec<String>>::new();
        for (header, value) in headers {
            let key = |prefix: &String| header.as_str().strip_prefix(prefix.as_str());
            if let Some(key) = self.extra_prefixes.iter().find_map(key) {
                let values = extra.entry(unescaped(key)).or_default();
                values.push(text(value.as_bytes())?.to_owned());
            }
        }
        Ok(User {
            name,
            uid: first(headers, &self.uid_headers)?,
            groups,
            extra,
        })
    }

    fn is_aggregator(&self, shown: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Stranger> {
        let (own, between) = shown.split_first().ok_or(Stranger::NoCertificate)?;
        self.ca
            .verify_client_cert(own, between, now)
            .map_err(|error| Stranger::WrongCa(error.to_string()))?;
        let named = |name: &str| self.names.iter().any(|allowed| allowed == name);
        if self.names.is_empty() || common_name(own).is_some_and(|name| named(&name)) {
            Ok(())
        } else {
            Err(Stranger::WrongName)
        }
    }
}

/// A JSON list of strings; `None` where the key is not there.
fn list(data: &BTreeMap<String, String>, key: &'static str) -> Result<Option<Vec<String>>, Unusable> {
    let parse = |text: &String| serde_json::from_str(text);
    let read = data.get(key).map(parse).transpose();
    read.map_err(|error| Unusable::Wrong(key, error.to_string()))
}

fn authority(data: &BTreeMap<String, String>) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let wrong = |error: &dyn ToString| Unusable::Wrong(CA, error.to_string());
    let pem = data.get(CA).ok_or(Unusable::Missing(CA))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    // No certificate in it is an error, too.
    verifier
        .map_err(|error| wrong(&error))
        .map(|verifier| verifier as _)
}

/// The last common name of a certificate's subject, which is the one that the API server goes by.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().last()?;
    name.as_str().ok().map(str::to_owned)
}

/// The first of these headers that says something.
fn first(headers: &HeaderMap, names: &[HeaderName]) -> Result<Option<String>, Stranger> {
    let values = names.iter().filter_map(|name| headers.get(name));
    let said = values.map(HeaderValue::as_bytes).find(|value| !value.is_empty());
    said.map(|value| text(value).map(str::to_owned)).transpose()
}

fn text(value: &[u8]) -> Result<&str, Stranger> {
    std::str::from_utf8(value).map_err(|_| Stranger::Unreadable)
}

/// A key with what the aggregator percent-encoded of it; as it is where that cannot be decoded.
pub fn unescaped(key: &str) -> String {
    let mut decoded = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|c| char::from(*c).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return key.to_owned();
        };
        decoded.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    String::from_utf8(decoded).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests;
