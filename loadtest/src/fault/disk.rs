//! A small disk that can be filled: a tmpfs, where this process may mount one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted tmpfs; dropping it unmounts it, whatever still uses it.
#[derive(Debug)]
pub struct SmallDisk {
    mounted: PathBuf,
    _parent: TempDir,
}

/// A file that takes all the room.
const FILLER: &str = "filler";
const BLOCK: usize = 64 * 1024;

impl SmallDisk {
    /// Mounts a disk of so many MiB. Fails where this process may not mount (it needs to be root).
    pub fn mount(mib: u32) -> io::Result<Self> {
        let parent = shared::servers::scratch_dir().map_err(io::Error::other)?;
        let mounted = parent.path().join("disk");
        fs::create_dir(&mounted)?;
        let options = format!("size={mib}m,mode=0755");
        let told = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&mounted)
            .output()?;
        if !told.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&told.stderr).trim().to_owned(),
            ));
        }
        Ok(Self {
            mounted,
            _parent: parent,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Takes all the room that is left, in bytes.
    pub fn fill(&self) -> io::Result<u64> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.mounted.join(FILLER))?;
        let block = vec![0xa5; BLOCK];
        let mut size = BLOCK;
        // Ever smaller pieces, so that no room is left.
        while size > 0 {
            match file.write(&block[..size]) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(file.metadata()?.len())
    }

    /// Gives the room back.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.mounted.join(FILLER))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is still ending keeps its files until it has ended.
        let _ = Command::new("umount").arg("--lazy").arg(&self.mounted).status();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests panic on failure")]
    use super::*;

    #[test]
    fn a_full_disk_is_full_until_it_is_freed() {
        let disk = match SmallDisk::mount(1) {
            Ok(disk) => disk,
            Err(error) => {
                println!("NOT TESTED: this process may not mount a tmpfs: {error}");
                return;
            }
        };
        assert!(disk.fill().unwrap() > 900_000);
        let other = disk.path().join("other");
        let full = fs::write(&other, b"one byte does not fit").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        disk.free().unwrap();
        fs::write(&other, b"fits").unwrap();
        let path = disk.path().to_owned();
        drop(disk);
        assert!(!path.exists());
    }
}
