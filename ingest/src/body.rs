//! Request bodies, read within bounds: their size, their time, and how much all of them hold together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Bounds;
use crate::error::{Code, Refusal};

/// Bodies are charged in units of so many bytes.
const UNIT: usize = 1024;

/// Reads bodies.
#[derive(Debug)]
pub struct Bodies {
    max_body: usize,
    read_timeout: Duration,
    /// Units that further bodies may take.
    room: Arc<Semaphore>,
}

/// A body that has arrived whole. It is charged until this is dropped.
#[derive(Debug)]
pub struct Received {
    /// The bytes as they came.
    pub bytes: Bytes,
    _charge: Charge,
}

/// What arrived, and is charged, so far.
#[derive(Debug, Default)]
struct Charge {
    permit: Option<OwnedSemaphorePermit>,
    units: usize,
}

impl Bodies {
    /// A reader within these bounds.
    pub fn new(bounds: &Bounds) -> Self {
        let units = (bounds.max_buffered / UNIT).min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(units));
        Self {
            max_body: bounds.max_body,
            read_timeout: bounds.read_timeout,
            room,
        }
    }

    /// Reads a body to its end. What arrives is charged as it arrives, so that announcing much holds nothing.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Received, Refusal> {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > self.max_body) {
            return Err(self.too_large());
        }
        tokio::time::timeout(self.read_timeout, self.collect(body))
            .await
            .unwrap_or_else(|_| {
                let detail = format!(
                    "the body did not arrive within {} ms",
                    self.read_timeout.as_millis()
                );
                Err(Refusal::new(Code::ReadTimeout, detail))
            })
    }

    async fn collect(&self, body: Body) -> Result<Received, Refusal> {
        let mut stream = body.into_data_stream();
        let mut charge = Charge::default();
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk =
                chunk.map_err(|e| Refusal::new(Code::BodyBroken, format!("the body broke off: {e}")))?;
            let bytes = first.len() + whole.len() + chunk.len();
            if bytes > self.max_body {
                return Err(self.too_large());
            }
            self.charge(&mut charge, bytes)?;
            if first.is_empty() && whole.is_empty() {
                // Most bodies come in one piece and need no copy.
                first = chunk;
            } else {
                if whole.is_empty() {
                    whole.extend_from_slice(&std::mem::take(&mut first));
                }
                whole.extend_from_slice(&chunk);
            }
        }
        let bytes = if whole.is_empty() { first } else { whole.freeze() };
        Ok(Received {
            bytes,
            _charge: charge,
        })
    }

    fn charge(&self, charge: &mut Charge, bytes: usize) -> Result<(), Refusal> {
        let units = bytes.div_ceil(UNIT);
        let more = units - charge.units;
        if more == 0 {
            return Ok(());
        }
        let full = |_| {
            let detail = "the bodies being taken in fill WEIR_INGEST_MAX_BUFFERED";
            Refusal::new(Code::Busy, detail).after(Duration::from_secs(1))
        };
        let permit = Arc::clone(&self.room)
            .try_acquire_many_owned(more as u32)
            .map_err(full)?;
        match &mut charge.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        charge.units = units;
        Ok(())
    }

    fn too_large(&self) -> Refusal {
        let detail = format!(
            "the body is larger than {} bytes (WEIR_INGEST_MAX_BODY)",
            self.max_body
        );
        Refusal::new(Code::BodyTooLarge, detail)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn bodies(max_body: usize, max_buffered: usize) -> Bodies {
        let read_timeout = Duration::from_secs(1);
        Bodies::new(&Bounds {
            max_body,
            max_buffered,
            read_timeout,
            ..Bounds::default()
        })
    }

    fn chunks(sizes: &[usize]) -> Body {
        let chunks: Vec<_> = sizes
            .iter()
            .map(|n| Ok::<_, std::io::Error>(Bytes::from(vec![7; *n])))
            .collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn size_is_bounded_while_reading_and_when_announced() {
        let bodies = bodies(3000, 1 << 20);
        let none = HeaderMap::new();
        assert_eq!(
            bodies
                .read(&none, chunks(&[1000, 1, 1999]))
                .await
                .unwrap()
                .bytes
                .len(),
            3000
        );
        assert_eq!(
            bodies.read(&none, chunks(&[1000, 2001])).await.unwrap_err().code,
            Code::BodyTooLarge
        );
        let mut announced = HeaderMap::new();
        announced.insert(header::CONTENT_LENGTH, 3001.into());
        assert_eq!(
            bodies.read(&announced, Body::empty()).await.unwrap_err().code,
            Code::BodyTooLarge
        );
        assert!(bodies.read(&none, Body::empty()).await.unwrap().bytes.is_empty());
    }

    #[tokio::test]
    async fn bodies_share_their_room_and_give_it_back() {
        let bodies = bodies(8 * UNIT, 10 * UNIT);
        let none = HeaderMap::new();
        let held = bodies.read(&none, chunks(&[4 * UNIT, 4 * UNIT])).await.unwrap();
        assert_eq!(
            bodies.read(&none, chunks(&[3 * UNIT])).await.unwrap_err().code,
            Code::Busy
        );
        drop(held);
        bodies.read(&none, chunks(&[UNIT, 7 * UNIT])).await.unwrap();
        assert_eq!(bodies.room.available_permits(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up() {
        let stalled = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"x")) });
        let stalled = Body::from_stream(stalled.chain(stream::pending()));
        let refusal = bodies(10, 1 << 20)
            .read(&HeaderMap::new(), stalled)
            .await
            .unwrap_err();
        assert_eq!(refusal.code, Code::ReadTimeout);
    }
}
