//! The other side of a connection, and what was found of it.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{FrontProxy, Stranger};

/// Whoever is at the other side of a connection. Verifying certificates is work, so it is done once for each
/// [`FrontProxy`] and not for each request.
#[derive(Debug)]
pub struct Peer {
    /// Its own first; possession of the key is proven, nothing else is. Empty when it showed none.
    certificates: Box<[CertificateDer<'static>]>,
    /// When each of them ends, where that can be read.
    ends: Vec<UnixTime>,
    verdict: Mutex<Option<Verdict>>,
    proven: watch::Sender<bool>,
}

#[derive(Debug)]
struct Verdict {
    by: Arc<FrontProxy>,
    found: Result<(), Stranger>,
    /// When to look again: a certificate ends.
    until: Option<UnixTime>,
}

impl Peer {
    /// Somebody who showed these certificates.
    pub fn new(certificates: &[CertificateDer<'static>]) -> Self {
        Self {
            certificates: certificates.into(),
            ends: certificates.iter().filter_map(end).collect(),
            verdict: Mutex::new(None),
            proven: watch::Sender::new(false),
        }
    }

    /// Whether it is the aggregator, by `proxy`. A stranger stays one for as long as `proxy` is in force.
    ///
    /// # Errors
    /// It is not.
    pub fn prove(&self, proxy: &Arc<FrontProxy>, now: UnixTime) -> Result<(), Stranger> {
        // Held while it is found out: requests of one connection would do the same work side by side.
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*verdict
            && Arc::ptr_eq(&known.by, proxy)
            && known.until.is_none_or(|until| now < until)
        {
            return known.found.clone();
        }
        let found = proxy.is_aggregator(&self.certificates, now);
        let ahead = self.ends.iter().copied().filter(|end| *end > now);
        self.proven.send_if_modified(|proven| {
            let before = std::mem::replace(proven, found.is_ok());
            before != found.is_ok()
        });
        *verdict = Some(Verdict {
            by: Arc::clone(proxy),
            found: found.clone(),
            until: if found.is_ok() { ahead.min() } else { None },
        });
        found
    }

    /// Whether it was the aggregator when that was asked last, and each change of that.
    pub fn proven(&self) -> watch::Receiver<bool> {
        self.proven.subscribe()
    }
}

/// The first moment in which a certificate is valid no more.
fn end(certificate: &CertificateDer<'static>) -> Option<UnixTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let last = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        last + 1,
    )))
}
