//! The certificate that this replica shows, read again when its files change: certificates are renewed under running
//! processes, and an aggregator that meets an expired one takes the whole API for broken.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::gauge::Gauge;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::MissedTickBehavior;
use x509_parser::prelude::{FromDer, Validity, X509Certificate};

/// Pause between two looks at the files. The kubelet itself takes up to a minute to bring a new secret.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Most bytes of a file.
const MOST_BYTES: u64 = 1024 * 1024;

/// Where a certificate and its key are, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and after it those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why there is no certificate to show. Says nothing of what stands in the key's file.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} that can be used: {why}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// The contents of both files.
type Contents = (Vec<u8>, Vec<u8>);

/// Shows the certificate that was last read and was good.
#[derive(Debug)]
pub struct Certificate {
    files: Files,
    current: RwLock<Arc<CertifiedKey>>,
    /// When it ends, in Unix seconds.
    end: Gauge,
    read: RwLock<Contents>,
}

/// A certificate with its key that is valid now.
struct Pair {
    shown: CertifiedKey,
    /// In Unix seconds.
    end: i64,
}

impl Certificate {
    /// Reads the files for the first time.
    pub fn read(files: Files) -> Result<Self, BadCertificate> {
        let contents = files.contents()?;
        let pair = files.parse(&contents)?;
        let end = Gauge::default();
        end.set(pair.end);
        Ok(Self {
            current: RwLock::new(Arc::new(pair.shown)),
            end,
            read: RwLock::new(contents),
            files,
        })
    }

    /// When the certificate that is shown ends, in Unix seconds.
    pub fn end(&self) -> Gauge {
        self.end.clone()
    }

    /// Looks at the files for ever.
    pub async fn follow(self: Arc<Self>) -> Result<(), BadCertificate> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut good = true;
        loop {
            looks.tick().await;
            match self.look().await {
                Ok(changed) => {
                    if changed {
                        tracing::info!("a new TLS certificate is shown");
                    }
                    good = true;
                }
                // Told when it begins, not at every look. Halves of a new pair are the usual reason, for a moment.
                Err(error) if good => {
                    tracing::warn!(%error, "the TLS certificate that was read before is shown on");
                    good = false;
                }
                Err(_) => {}
            }
        }
    }

    /// Looks at the files once; whether they had changed and are in use. What is not valid now is not taken, however
    /// short the time that the one before still has.
    pub async fn look(&self) -> Result<bool, BadCertificate> {
        let files = self.files.clone();
        // File systems may hang, and other tasks must not.
        let contents = tokio::task::spawn_blocking(move || files.contents()).await;
        let contents = contents.unwrap_or_else(|error| {
            Err(BadCertificate::Unreadable {
                path: self.files.certificate.clone(),
                error: error.into(),
            })
        })?;
        if *self.read.read().unwrap_or_else(PoisonError::into_inner) == contents {
            return Ok(false);
        }
        let new = self.files.parse(&contents)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new.shown);
        self.end.set(new.end);
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = contents;
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

impl Files {
    /// Whether each of them can be read, and both go together: everything that is wrong, with the file that it is about.
    pub fn check(&self) -> Vec<(PathBuf, BadCertificate)> {
        let read = (bytes(&self.certificate), bytes(&self.key));
        let (certificate, key) = match read {
            (Ok(certificate), Ok(key)) => (certificate, key),
            (certificate, key) => {
                let bad = [(&self.certificate, certificate.err()), (&self.key, key.err())];
                return bad
                    .into_iter()
                    .filter_map(|(path, error)| Some((path.clone(), error?)))
                    .collect();
            }
        };
        match self.parse(&(certificate, key)) {
            Ok(_) => Vec::new(),
            Err(error) => {
                let (BadCertificate::Unreadable { path, .. } | BadCertificate::Unusable { path, .. }) =
                    &error;
                vec![(path.clone(), error)]
            }
        }
    }

    fn contents(&self) -> Result<Contents, BadCertificate> {
        Ok((bytes(&self.certificate)?, bytes(&self.key)?))
    }

    fn parse(&self, (certificate, key): &Contents) -> Result<Pair, BadCertificate> {
        let unusable = |path: &PathBuf, what, why: String| BadCertificate::Unusable {
            path: path.clone(),
            what,
            why,
        };
        let bad_chain = |why| unusable(&self.certificate, "certificate", why);
        let bad_key = |why| unusable(&self.key, "key", why);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|error| bad_chain(error.to_string()))?;
        // Not only its own: whoever meets bytes among them that are none gives up the handshake.
        let read = |der: &CertificateDer<'_>| validity(der).ok_or("one of them cannot be parsed");
        let validities: Result<Vec<_>, _> = chain.iter().map(read).collect();
        let validities = validities.map_err(|why| bad_chain(why.into()))?;
        let own = validities
            .first()
            .ok_or_else(|| bad_chain("there is none".into()))?;
        // What the parser found wrong may quote the key.
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| bad_key("it is no private key in PEM".into()))?;
        let provider = rustls::crypto::ring::default_provider();
        let shown = CertifiedKey::from_der(chain, key, &provider);
        let shown = shown.map_err(|error| bad_key(error.to_string()))?;
        let (from, end) = (own.not_before.timestamp(), own.not_after.timestamp());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if !(from..=end).contains(&now) {
            return Err(bad_chain(format!(
                "it is valid from {} to {}, and not now",
                own.not_before, own.not_after
            )));
        }
        Ok(Pair { shown, end })
    }
}

/// From when to when a certificate is valid, where these bytes are one and nothing else.
fn validity(der: &CertificateDer<'_>) -> Option<Validity> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then(|| certificate.validity().clone())
}

fn bytes(path: &Path) -> Result<Vec<u8>, BadCertificate> {
    let read = || {
        // Opening a pipe waits for somebody who writes.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("no regular file"));
        }
        let mut read = Vec::new();
        File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut read)?;
        if read.len() as u64 > MOST_BYTES {
            return Err(io::Error::other(format!("larger than {MOST_BYTES} bytes")));
        }
        Ok(read)
    };
    read().map_err(|error| BadCertificate::Unreadable {
        path: path.to_owned(),
        error,
    })
}
