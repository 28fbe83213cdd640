//! Reads a body out of the bucket.

use async_nats::jetstream;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Object;
use crate::stored::{self, Unread};
use crate::subject::{BODIES_CHUNKS, BODIES_STREAM};

/// A body that cannot be had whole, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// Why a body was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It cannot be had whole.
    #[error(transparent)]
    Broken(Broken),
    /// The server does not answer; it may be there.
    #[error(transparent)]
    Away(Unread),
}

/// Reads an object whole and checks its digest. Takes [`Object::size`] bytes.
pub async fn read(js: &jetstream::Context, object: &Object) -> Result<Bytes, ReadError> {
    let subject = format!("{BODIES_CHUNKS}.{}", object.nuid);
    let mut body = Vec::with_capacity(object.size);
    let mut sha256 = Sha256::new();
    let (mut pieces, mut from) = (0, 1);
    while body.len() < object.size {
        let Some((sequence, piece)) = piece(js, &subject, from).await? else {
            let (have, size) = (body.len(), object.size);
            return Err(broken(format!("only {have} of its {size} bytes are there")));
        };
        if piece.is_empty() || body.len() + piece.len() > object.size {
            return Err(broken("its pieces do not make up its size".into()));
        }
        sha256.update(&piece);
        body.extend_from_slice(&piece);
        from = sequence + 1;
        pieces += 1;
    }
    if pieces != object.pieces || sha256.finalize()[..] != object.digest {
        return Err(broken(
            "its bytes are not those that were put there: the digest differs".into(),
        ));
    }
    Ok(body.into())
}

/// The next piece, from any replica; that there is none is believed of the leader alone.
async fn piece(js: &jetstream::Context, subject: &str, from: u64) -> Result<Option<(u64, Bytes)>, ReadError> {
    if let Ok(stream) = js.get_stream_no_info(BODIES_STREAM).await
        && let Ok(message) = stream.direct_get_next_for_subject(subject, Some(from)).await
    {
        return Ok(Some((message.sequence, message.payload)));
    }
    let stored = stored::next(js, BODIES_STREAM, subject, from).await?;
    Ok(stored.map(|stored| (stored.sequence, stored.payload)))
}

fn broken(what: String) -> ReadError {
    ReadError::Broken(Broken(what))
}
