//! How much of a server's answers is read: little of what it tells before the pack, which is held in memory, and more
//! of the pack, which is written to a file as it comes.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::error::AnalysisError;
use crate::settings::Settings;

/// The budget of one fetch, over all of its answers.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Mutex<Left>>);

#[derive(Debug)]
struct Left {
    told: u64,
    bytes: u64,
    until: Instant,
    cancel: CancellationToken,
    /// The setting that allows no more, and of what.
    over: Option<(&'static str, &'static str)>,
}

impl Budget {
    pub(crate) fn new(settings: &Settings, cancel: &CancellationToken) -> Self {
        Self(Arc::new(Mutex::new(Left {
            told: settings.reference_bytes,
            bytes: settings.fetch_bytes,
            until: Instant::now() + settings.fetch_time,
            cancel: cancel.clone(),
            over: None,
        })))
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes that came; `before_pack` of them were no pack.
    pub(super) fn take(&self, bytes: usize, before_pack: usize) -> io::Result<()> {
        let mut left = self.left();
        if left.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        if Instant::now() >= left.until {
            return Err(io::Error::other(
                "it takes longer than the setting `fetch_time` allows",
            ));
        }
        let told = left.told.checked_sub(before_pack as u64);
        let rest = left.bytes.checked_sub(bytes as u64);
        let over = match (told, rest) {
            (Some(told), Some(rest)) => {
                (left.told, left.bytes) = (told, rest);
                return Ok(());
            }
            (None, _) => ("reference_bytes", "what the server tells before the pack"),
            (_, None) => ("fetch_bytes", "the fetch"),
        };
        left.over = Some(over);
        Err(io::Error::other(format!(
            "more than the setting `{}` allows",
            over.0
        )))
    }

    /// What a fetch that has failed had too much of, if that is why.
    pub(crate) fn over(&self) -> Option<AnalysisError> {
        let (setting, what) = self.left().over?;
        let what = what.to_owned();
        Some(AnalysisError::TooMuch { setting, what })
    }
}

/// Looks at the lines of an answer for the one that begins the pack. Whatever else looks like that one is an error to
/// whoever reads the lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Digits of the length of a line, as far as they have come.
    digits: u32,
    length: usize,
    /// Bytes of the line that have not come yet.
    left: usize,
    /// How the line begins.
    start: Vec<u8>,
    pack: bool,
}

/// How a line begins with which the pack does: that of version 2, the same on the band of data, and the pack itself.
const BEGINNINGS: [&[u8]; 3] = [b"packfile", b"\x01packfile", b"\x01PACK"];

impl Lines {
    /// How many of these bytes come before the pack.
    pub(super) fn before_pack(&mut self, bytes: &[u8]) -> usize {
        if self.pack {
            return 0;
        }
        for (at, byte) in bytes.iter().enumerate() {
            if self.left > 0 {
                self.left -= 1;
                if self.start.len() < 9 {
                    self.start.push(*byte);
                    if BEGINNINGS.contains(&self.start.as_slice()) {
                        self.pack = true;
                        return at;
                    }
                }
            } else if let Some(digit) = char::from(*byte).to_digit(16) {
                self.length = self.length << 4 | digit as usize;
                self.digits += 1;
                if self.digits == 4 {
                    self.left = self.length.saturating_sub(4);
                    (self.digits, self.length) = (0, 0);
                    self.start.clear();
                }
            } else {
                // No line, and none comes after it.
                self.left = usize::MAX;
                self.start = vec![0; 9];
            }
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn the_pack_begins_where_its_line_does_however_the_bytes_are_cut() {
        let told = |lines: &[&str]| -> Vec<u8> {
            let line = |line: &&str| format!("{:04x}{line}", line.len() + 4);
            lines.iter().map(line).collect::<String>().into_bytes()
        };
        for (before, pack) in [
            (told(&["shallow-info\n", "shallow 1\n"]), "packfile\n"),
            (
                told(&["\u{1}shallow-info\n", "\u{2}packfile\n"]),
                "\u{1}packfile\n",
            ),
            (told(&["NAK\n", "\u{2}Counting"]), "\u{1}PACK\0\0"),
            (told(&["wanted 000dpackfile\n", ""]), "packfile"),
        ] {
            let all = [before.clone(), b"0001".to_vec(), told(&[pack]), vec![7; 100]].concat();
            for size in [1, 2, 5, 64, 1000] {
                let mut lines = Lines::default();
                let counted: usize = all.chunks(size).map(|part| lines.before_pack(part)).sum();
                // An end of a section, the line's length, and what it begins with but for the last byte.
                let word = pack.trim_end_matches(['\n', '\0']);
                assert_eq!(counted, before.len() + 8 + word.len() - 1, "{pack:?} {size}");
            }
        }
        for none in ["zz00packfile\n", "PACK", "0003packfile"] {
            let mut lines = Lines::default();
            let counted = lines.before_pack(none.as_bytes());
            assert_eq!(counted, none.len(), "{none}");
        }
    }
}
