//! Puts a body into the bucket.

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Name, meta, remove_pieces};
use crate::subject::BODIES_CHUNKS;

/// Largest piece in bytes. Each is a message: whatever else shares the connection waits for one of them at most.
const PIECE: usize = 256 * 1024;
/// Pieces sent and not yet acknowledged, so that a body does not take a round trip for each.
const IN_FLIGHT: usize = 8;
/// JetStream's error code when a stream cannot store a message.
const STORE_FAILED: u64 = 10_077;

/// Why a body is not in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// There is no room for it.
    #[error("the bucket of large events is full")]
    Full,
    /// There is no bucket, or it is between two leaders.
    #[error("nobody takes large events: no bucket, or it has no leader")]
    NoBucket,
    /// The server did not keep it; another try may help.
    #[error("the body was not kept: {0}")]
    Away(String),
}

/// Puts a body and waits until the server keeps all of it. `max_payload` is the server's.
///
/// Until the last step nothing says that there is an object: pieces of one that failed are removed, or left to the
/// scheduler when that fails too.
pub async fn put(
    js: &jetstream::Context,
    name: &Name,
    body: &Bytes,
    max_payload: usize,
) -> Result<(), PutError> {
    let nuid = Uuid::now_v7().simple().to_string();
    let mut sent = FuturesOrdered::new();
    let result = send(js, name, body, max_payload, &nuid, &mut sent).await;
    if result.is_err() {
        // One that is still on its way would come after the removal.
        while sent.next().await.is_some() {}
        // Best effort: it is the server that has trouble.
        let _ = remove_pieces(js, &nuid).await;
    }
    result
}

type Pending = <PublishAckFuture as IntoFuture>::IntoFuture;

async fn send(
    js: &jetstream::Context,
    name: &Name,
    body: &Bytes,
    max_payload: usize,
    nuid: &str,
    sent: &mut FuturesOrdered<Pending>,
) -> Result<(), PutError> {
    let piece = PIECE.min((max_payload / 2).max(1024));
    let subject = format!("{BODIES_CHUNKS}.{nuid}");
    let mut sha256 = Sha256::new();
    let mut pieces = 0;
    for at in (0..body.len()).step_by(piece) {
        let part = body.slice(at..body.len().min(at + piece));
        pieces += 1;
        sha256.update(&part);
        let ack = js.publish(subject.clone(), part).await.map_err(|e| failed(&e))?;
        sent.push_back(ack.into_future());
        if sent.len() >= IN_FLIGHT {
            acknowledged(sent.next().await)?;
        }
    }
    while let Some(ack) = sent.next().await {
        acknowledged(Some(ack))?;
    }
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    let written = meta::written(name.as_str(), nuid, body.len(), pieces, piece, &sha256.finalize());
    let ack = js
        .publish_with_headers(meta::subject(name.as_str()), headers, written.into())
        .await;
    ack.map_err(|e| failed(&e))?.await.map_err(|e| failed(&e))?;
    Ok(())
}

type Acknowledged = <PublishAckFuture as IntoFuture>::Output;

fn acknowledged(ack: Option<Acknowledged>) -> Result<(), PutError> {
    ack.transpose().map(|_| ()).map_err(|error| failed(&error))
}

fn failed(error: &PublishError) -> PutError {
    if error.kind() == PublishErrorKind::StreamNotFound {
        return PutError::NoBucket;
    }
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
        Some(answer) if answer.error_code().0 == STORE_FAILED && answer.to_string().contains("maximum") => {
            PutError::Full
        }
        Some(answer) => PutError::Away(answer.to_string()),
        None => PutError::Away(error.to_string()),
    }
}
