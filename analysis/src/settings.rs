//! Bounds. Every one of them is told in the report when it is reached.

use std::path::PathBuf;
use std::time::Duration;

/// What an analyzer may read and how much it may use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folders below which paths may be read. None: only URLs.
    pub roots: Vec<PathBuf>,
    /// Whether URLs may lead to addresses that are not public, and be `http`. Otherwise they are `https` and public.
    pub allow_private: bool,
    /// Where fetched repositories are kept. None: no URLs.
    pub cache: Option<PathBuf>,
    /// Most bytes that the fetched repositories take together; the one used longest ago goes first.
    pub cache_bytes: u64,
    /// Most bytes that a git server sends for one fetch.
    pub fetch_bytes: u64,
    /// Most of them before the pack: what the server can do, and its references whose names begin with the one that is
    /// asked for. They are held in memory, which takes about five times as much. A reference takes about 80 bytes.
    pub reference_bytes: u64,
    /// Largest object of a repository, of whatever kind, and most memory for the list of a pack's objects. In bytes.
    pub object_bytes: usize,
    /// Longest time of a fetch.
    pub fetch_time: Duration,
    /// Threads that parse at once, over all analyses of this analyzer. Each may take what the largest file does.
    pub threads: usize,
    /// Files of one batch, at least 1.
    pub batch: usize,
    /// Largest file that is parsed, in bytes. Memory follows it: code takes about 90 times its size while it is parsed,
    /// tables of numbers 200 to 400 times, and what is made to take much 800 times.
    pub file_bytes: usize,
    /// Longest time for one file.
    pub file_time: Duration,
    /// Deepest folder.
    pub depth: usize,
    /// Most entries of all folders together, files that are no code included.
    pub entries: usize,
    /// Most files of code.
    pub files: usize,
    /// Most bytes of code.
    pub bytes: u64,
    /// Most dependencies between files.
    pub edges: usize,
    /// Longest time of an analysis, the fetch not included.
    pub time: Duration,
    /// Length of the report's lists.
    pub top: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            allow_private: false,
            cache: None,
            cache_bytes: 10 << 30,
            fetch_bytes: 2 << 30,
            // 50,000 references.
            reference_bytes: 4 << 20,
            object_bytes: 64 << 20,
            fetch_time: Duration::from_secs(600),
            // More would take more memory than a worker has.
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(2),
            batch: 50,
            file_bytes: 192 << 10,
            file_time: Duration::from_secs(2),
            depth: 64,
            entries: 2_000_000,
            files: 200_000,
            bytes: 4 << 30,
            edges: 2_000_000,
            time: Duration::from_secs(1800),
            top: 20,
        }
    }
}
