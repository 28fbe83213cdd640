//! Where the text of settings comes from, and what it must be before anything reads it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Most bytes of a setting, directly or in a file. The longest that makes sense is a list of some thousand tokens.
pub const MAX_BYTES: usize = 256 * 1024;

/// Where settings come from: the process's environment, or a map in a test.
pub trait Environment {
    /// A variable's value, byte for byte.
    fn raw(&self, name: &str) -> Option<OsString>;
    /// The names of all variables.
    fn names(&self) -> Vec<String>;
    /// A variable's value as text; bytes that are no UTF-8 are replaced. A [`Reader`](super::Reader) refuses them.
    fn get(&self, name: &str) -> Option<String> {
        self.raw(name).map(|value| value.to_string_lossy().into_owned())
    }
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Environment for Process {
    fn raw(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect()
    }
}

impl Environment for BTreeMap<String, String> {
    fn raw(&self, name: &str) -> Option<OsString> {
        BTreeMap::get(self, name).map(OsString::from)
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// Whether a setting may hold line breaks and tabs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    One,
    Several,
}

pub(super) fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

/// Opens a regular file, or a link to one. Opening a pipe would wait for somebody who writes, and reading a device may
/// never end.
///
/// # Errors
/// It cannot be opened, or is something else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let regular = |is: fs::Metadata| {
        is.is_file()
            .then_some(())
            .ok_or_else(|| io::Error::other("no regular file"))
    };
    regular(fs::metadata(path)?)?;
    // It may have become a pipe since.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    regular(file.metadata()?)?;
    Ok(file)
}

/// The bytes of a regular file, one more than [`MAX_BYTES`] of those that are longer.
///
/// # Errors
/// It cannot be read, or is no regular file.
pub fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A path as it stands in a problem.
pub(super) fn quoted(path: &OsStr) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// The text of a setting. What is wrong is told without the text: it may be a secret.
pub(super) fn checked(bytes: Vec<u8>, lines: Lines) -> Result<String, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("has more than {MAX_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        format!("is not UTF-8 from byte {at}")
    })?;
    let text = text.trim();
    let breaks = |c: char| lines == Lines::Several && matches!(c, '\n' | '\r' | '\t');
    match text.char_indices().find(|(_, c)| c.is_control() && !breaks(*c)) {
        Some((at, c)) => Err(format!(
            "has a control character (U+{:04X}) at byte {at}",
            u32::from(c)
        )),
        None => Ok(text.to_owned()),
    }
}
