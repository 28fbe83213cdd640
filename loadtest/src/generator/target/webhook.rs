//! Signed GitHub webhooks made from payload files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client;
use sha2::Sha256;
use uuid::Uuid;

use super::{Target, conclude};
use crate::generator::tally::Sent;

/// Most payload files read.
const MAX_PAYLOADS: usize = 10_000;
/// Largest payload read, in bytes: GitHub's own cap.
const MAX_PAYLOAD: u64 = 25 * 1024 * 1024;
/// Low bits of a delivery id that number the deliveries of a run.
const NUMBER_BITS: u128 = 0xffff_ffff_ffff;

/// One payload and the event it belongs to.
#[derive(Clone, Debug)]
pub struct Payload {
    /// `X-GitHub-Event`, e.g. `issues`.
    pub event: String,
    /// Body as GitHub sent it.
    pub body: Bytes,
}

/// Payload files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No `.json` file was found.
    #[error("{0}: no .json file in it; expected <event>/<name>.json or a file")]
    Empty(PathBuf),
    /// Nothing to send.
    #[error("a webhook load needs one payload at least")]
    NoPayload,
}

/// Reads `<event>/<name>.json` below a folder, or one such file; sorted by path. Files above 25 MB are left out.
pub fn payloads(path: &Path) -> Result<Vec<Payload>, PayloadError> {
    let mut files = Vec::new();
    collect(path, &mut files)?;
    files.sort();
    files.truncate(MAX_PAYLOADS);
    if files.is_empty() {
        return Err(PayloadError::Empty(path.to_owned()));
    }
    let read = |file: PathBuf| {
        let body = fs::read(&file).map_err(|source| PayloadError::Read {
            path: file.clone(),
            source,
        })?;
        let folder = file.parent().and_then(Path::file_name).unwrap_or_default();
        Ok(Payload {
            event: folder.to_string_lossy().into_owned(),
            body: body.into(),
        })
    };
    files.into_iter().map(read).collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), PayloadError> {
    let failed = |source| PayloadError::Read {
        path: path.to_owned(),
        source,
    };
    let about = fs::metadata(path).map_err(failed)?;
    if about.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            collect(&entry.map_err(failed)?.path(), files)?;
        }
    } else if path.extension().is_some_and(|kind| kind == "json") && about.len() <= MAX_PAYLOAD {
        files.push(path.to_owned());
    }
    Ok(())
}

/// Sends payloads in turn to `POST {base}/webhooks/{source}`, signed as GitHub signs.
pub struct Webhook {
    client: Client,
    url: String,
    source: String,
    run: Uuid,
    repeats: u64,
    signed: Vec<(Payload, String)>,
}

impl Webhook {
    /// Each delivery id is sent `repeats` times in a row (at least once). Fails without payloads.
    pub fn new(
        client: Client,
        base: &str,
        source: &str,
        secret: &str,
        payloads: Vec<Payload>,
        repeats: u64,
    ) -> Result<Self, PayloadError> {
        if payloads.is_empty() {
            return Err(PayloadError::NoPayload);
        }
        let signed = payloads
            .into_iter()
            .map(|payload| {
                let signature = sign(secret.as_bytes(), &payload.body);
                (payload, signature)
            })
            .collect();
        Ok(Self {
            client,
            url: format!("{}/webhooks/{source}", base.trim_end_matches('/')),
            source: source.to_owned(),
            run: Uuid::now_v7(),
            repeats: repeats.max(1),
            signed,
        })
    }

    /// The delivery id of request `number`: the run's id with the delivery's number in its low bits.
    pub fn delivery(&self, number: u64) -> Uuid {
        let delivery = u128::from(number / self.repeats) & NUMBER_BITS;
        Uuid::from_u128(self.run.as_u128() & !NUMBER_BITS | delivery)
    }
}

impl Target for Webhook {
    async fn send(&self, number: u64) -> Sent {
        let turn = (number / self.repeats) as usize % self.signed.len();
        let (payload, signature) = &self.signed[turn];
        let delivery = self.delivery(number);
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("user-agent", "GitHub-Hookshot/weir-loadtest")
            .header("x-github-event", &payload.event)
            .header("x-github-delivery", delivery.to_string())
            .header("x-hub-signature-256", signature)
            .body(payload.body.clone());
        conclude(request.send().await, format!("{}:{delivery}", self.source)).await
    }
}

/// `X-Hub-Signature-256` of a body. An HMAC key may be of any length, so an empty one only signs worthlessly.
fn sign(secret: &[u8], body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use axum::{Router, http::HeaderMap, routing::post};
    use indicatif::ProgressBar;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::generator::{Closed, Outcome, saturate, target::http_client};

    #[tokio::test]
    async fn deliveries_are_signed_and_repeated_with_the_same_id() {
        shared::lifecycle::install_tls();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = Arc::clone(&seen);
        let app = Router::new().route(
            "/webhooks/octo",
            post(|headers: HeaderMap, body: Bytes| async move {
                let text = |name: &str| headers[name].to_str().unwrap().to_owned();
                assert_eq!(text("x-hub-signature-256"), sign(b"s3cret", &body));
                assert_eq!(text("x-github-event"), "push");
                keep.lock().unwrap().push(text("x-github-delivery"));
                (http::StatusCode::ACCEPTED, "{}")
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let payload = Payload {
            event: "push".into(),
            body: "{}".into(),
        };
        let client = http_client(Duration::from_secs(10)).unwrap();
        let target = Webhook::new(client, &base, "octo", "s3cret", vec![payload], 3).unwrap();
        let closed = Closed {
            connections: 2,
            max_requests: 9,
            lasts: Duration::from_mins(1),
        };
        let bar = ProgressBar::hidden();
        let result = saturate(closed, Arc::new(target), &bar, &CancellationToken::new()).await;
        server.abort();
        assert_eq!(result.count(&Outcome::Accepted), 9);
        let seen = seen.lock().unwrap();
        assert_eq!((seen.len(), result.accepted_ids.len()), (9, 3));
        assert!(
            seen.iter()
                .all(|id| result.accepted_ids.contains(&format!("octo:{id}")))
        );
    }

    #[test]
    fn payloads_are_found_with_their_events() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        assert!(matches!(payloads(&here), Err(PayloadError::Empty(_))));
        assert!(matches!(
            payloads(&here.join("absent")),
            Err(PayloadError::Read { .. })
        ));
        let folder = shared::servers::scratch_dir().unwrap();
        let issues = folder.path().join("issues");
        fs::create_dir(&issues).unwrap();
        fs::write(issues.join("opened.json"), "{}").unwrap();
        fs::write(issues.join("notes.txt"), "x").unwrap();
        let found = payloads(folder.path()).unwrap();
        assert_eq!((found.len(), found[0].event.as_str()), (1, "issues"));
    }

    #[test]
    fn signs_the_vector_of_githubs_documents() {
        assert_eq!(
            sign(b"It's a Secret to Everybody", b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
