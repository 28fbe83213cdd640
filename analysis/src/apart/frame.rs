//! What goes between a process that parses and the one it serves. Both are the same program, so nothing of it is kept: a length
//! of four bytes, big-endian, and so many bytes.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Ended;
use crate::facts::Facts;
use crate::language::Language;
use crate::parsing::Read;
use crate::reading::Unread;

/// No frame is longer: above the largest `file_bytes`, and above what facts can come to.
pub(super) const LONGEST: usize = 128 << 20;
/// The number of a language, and milliseconds.
const HEAD: usize = 5;

/// One file to be read.
pub(super) struct Asked<'a> {
    pub(super) language: Language,
    pub(super) patience: Duration,
    pub(super) source: &'a [u8],
}

impl<'a> Asked<'a> {
    /// The bytes before the source.
    pub(super) fn head(&self) -> Option<Vec<u8>> {
        let length = u32::try_from(self.source.len() + HEAD).ok()?;
        let mut head = length.to_be_bytes().to_vec();
        head.push(self.language as u8);
        let patience = u32::try_from(self.patience.as_millis()).unwrap_or(u32::MAX);
        head.extend(patience.to_be_bytes());
        Some(head)
    }

    pub(super) fn read(frame: &'a [u8]) -> Option<Self> {
        let (head, source) = frame.split_first_chunk::<HEAD>()?;
        let [language, patience @ ..] = *head;
        Some(Self {
            language: Language::ALL.into_iter().find(|one| *one as u8 == language)?,
            patience: Duration::from_millis(u32::from_be_bytes(patience).into()),
            source,
        })
    }
}

/// What one file has come to.
#[derive(Debug)]
pub(super) struct Told {
    /// Encoded.
    facts: Result<Bytes, Unread>,
    /// Whether the process takes another file.
    pub(super) goes_on: bool,
}

impl Told {
    /// A whole frame of it.
    pub(super) fn write(facts: &Result<Facts, Unread>, goes_on: bool) -> Vec<u8> {
        let encoded = facts.as_ref().map_err(|unread| *unread);
        let encoded = encoded.and_then(|facts| facts.encode().map_err(|_| Unread::Failed));
        let (kind, facts) = match encoded {
            Ok(facts) => (b'f', facts),
            Err(Unread::TimedOut) => (b't', Bytes::new()),
            Err(_) => (b'x', Bytes::new()),
        };
        let mut frame = (facts.len() as u32 + 2).to_be_bytes().to_vec();
        frame.extend([kind, u8::from(goes_on)]);
        frame.extend(facts);
        frame
    }

    pub(super) fn read(frame: Vec<u8>) -> Option<Self> {
        let frame = Bytes::from(frame);
        let (kind, goes_on) = (*frame.first()?, *frame.get(1)? == 1);
        let facts = match kind {
            b'f' => Ok(frame.slice(2..)),
            b't' => Err(Unread::TimedOut),
            b'x' => Err(Unread::Failed),
            _ => return None,
        };
        Some(Self { facts, goes_on })
    }

    pub(super) fn into_read(self) -> Result<Read, Unread> {
        let bytes = self.facts?;
        let facts = Facts::decode(&bytes).map_err(|_| Unread::Failed)?;
        Ok(Read {
            facts: Arc::new(facts),
            bytes,
        })
    }
}

/// Writes all of both, at once where that can be; `go_on` is asked each time the other side makes us wait for too long.
pub(super) fn write(
    to: &mut impl io::Write,
    mut head: &[u8],
    mut rest: &[u8],
    go_on: impl Fn() -> Result<(), Ended>,
) -> Result<(), Ended> {
    while !head.is_empty() || !rest.is_empty() {
        match to.write_vectored(&[IoSlice::new(head), IoSlice::new(rest)]) {
            Ok(0) => return Err(Ended::Closed),
            Ok(written) => {
                let of_head = written.min(head.len());
                (head, rest) = (&head[of_head..], &rest[written - of_head..]);
            }
            Err(error) => wait(error.kind(), &go_on)?,
        }
    }
    Ok(())
}

/// Reads a frame.
pub(super) fn read(
    from: &mut impl io::Read,
    go_on: impl Fn() -> Result<(), Ended>,
) -> Result<Vec<u8>, Ended> {
    let mut length = [0; 4];
    fill(from, &mut length, &go_on)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(Ended::Garbled);
    }
    let mut frame = vec![0; length];
    fill(from, &mut frame, &go_on)?;
    Ok(frame)
}

fn fill(
    from: &mut impl io::Read,
    mut to: &mut [u8],
    go_on: &impl Fn() -> Result<(), Ended>,
) -> Result<(), Ended> {
    while !to.is_empty() {
        match from.read(to) {
            Ok(0) => return Err(Ended::Closed),
            Ok(read) => to = &mut to[read..],
            Err(error) => wait(error.kind(), go_on)?,
        }
    }
    Ok(())
}

fn wait(error: ErrorKind, go_on: &impl Fn() -> Result<(), Ended>) -> Result<(), Ended> {
    match error {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => go_on(),
        _ => Err(Ended::Closed),
    }
}
