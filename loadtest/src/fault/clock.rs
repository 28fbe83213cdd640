//! A wall clock that jumps, for one process: `libfaketime`, where it is installed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where distributions put the library.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A clock that jumps when told.
#[derive(Debug)]
pub struct FakeClock {
    library: &'static str,
    file: PathBuf,
}

impl FakeClock {
    /// One whose jumps are written into `dir`; `None` where the library is not installed.
    pub fn find(dir: &Path) -> io::Result<Option<Self>> {
        let Some(library) = PLACES.into_iter().find(|path| Path::new(path).is_file()) else {
            return Ok(None);
        };
        let clock = Self {
            library,
            file: dir.join("faketime"),
        };
        clock.jump(0)?;
        Ok(Some(clock))
    }

    /// Environment of a process that goes by it. Only the time of day is changed, as by `settimeofday`.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// From now on it is so many seconds ahead of the real one, behind when negative. Its processes see it within a
    /// second.
    pub fn jump(&self, seconds: i64) -> io::Result<()> {
        fs::write(&self.file, format!("{seconds:+}s\n"))
    }
}
