//! Whether a repository on this machine is all below the roots: its files may name others anywhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::AnalysisError;
use crate::settings::Settings;
use crate::source::admit_path;

/// Most entries of a repository's own folder that are looked at.
const MAX_ENTRIES: usize = 5_000_000;
/// Most repositories whose objects this one may use.
const MAX_ALTERNATES: usize = 16;
/// Longest file that names another place.
const MAX_POINTER: u64 = 64 << 10;

fn refused(what: &str, path: &Path) -> AnalysisError {
    AnalysisError::Refused(format!("{what}: {}", path.display()))
}

fn pointer(path: &Path) -> Result<Option<String>, AnalysisError> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(None),
        Ok(meta) if meta.is_file() && meta.len() <= MAX_POINTER => {
            let text = fs::read(path).map_err(|e| AnalysisError::Broken(e.to_string()))?;
            let text = String::from_utf8(text).map_err(|_| refused("this names no place in UTF-8", path))?;
            // What is checked must be what is opened, whoever splits and trims the text.
            let odd = |line: &str| line.contains(char::is_control) || line != line.trim();
            if text.split('\n').any(odd) {
                return Err(refused("this names a place with odd characters", path));
            }
            Ok(Some(text))
        }
        Ok(_) => Err(refused("this is no plain file", path)),
    }
}

/// Refuses a repository that leads out of the roots by a pointer, an alternate or a link.
pub(super) fn check(path: &Path, settings: &Settings) -> Result<(), AnalysisError> {
    let dot = path.join(".git");
    let dir = match fs::symlink_metadata(&dot) {
        Err(_) => path.to_owned(),
        Ok(meta) if meta.is_dir() => dot,
        Ok(_) => {
            let text = pointer(&dot)?.unwrap_or_default();
            let to = text.strip_prefix("gitdir:").map(str::trim);
            let to = to.ok_or_else(|| refused("this is no repository", path))?;
            admit_path(&path.join(to), settings)?
        }
    };
    let mut left = MAX_ENTRIES;
    links(&dir, &mut left)?;
    let common = match pointer(&dir.join("commondir"))? {
        Some(to) => {
            let common = admit_path(&dir.join(to.trim()), settings)?;
            links(&common, &mut left)?;
            common
        }
        None => dir,
    };
    alternates(common.join("objects"), settings, &mut left)
}

fn alternates(objects: PathBuf, settings: &Settings, left: &mut usize) -> Result<(), AnalysisError> {
    let (mut open, mut seen) = (vec![objects], 0);
    while let Some(objects) = open.pop() {
        seen += 1;
        if seen > MAX_ALTERNATES {
            return Err(refused("too many alternates", &objects));
        }
        for line in pointer(&objects.join("info/alternates"))?
            .unwrap_or_default()
            .lines()
        {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with('"') {
                return Err(refused("a quoted alternate", &objects));
            }
            let other = admit_path(&objects.join(line), settings)?;
            links(&other, left)?;
            open.push(other);
        }
    }
    Ok(())
}

/// Refuses links in a repository's own folder.
fn links(dir: &Path, left: &mut usize) -> Result<(), AnalysisError> {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).map_err(|e| AnalysisError::Broken(e.to_string()))?;
        for entry in entries.flatten() {
            *left = left.checked_sub(1).ok_or(AnalysisError::TooMuch {
                setting: "entries",
                what: "entries of the repository's own folder".into(),
            })?;
            match entry.file_type() {
                // Hooks are never run.
                Ok(_) if entry.file_name() == "hooks" => {}
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => {}
                _ => return Err(refused("the repository's own folder holds a link", &entry.path())),
            }
        }
    }
    Ok(())
}
