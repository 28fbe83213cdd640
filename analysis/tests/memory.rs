//! How much memory repositories take that are made to take much. Alone in its process, whose peak it reads.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::fs;
use std::sync::Arc;

use analysis::catalog::Reason;
use analysis::index::memory::MemoryIndex;
use analysis::{Analyzer, Settings, Source};
use tokio_util::sync::CancellationToken;

/// Two events at a time, with the bounds that are shipped. A worker has 1 GiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_made_to_take_memory_do_not_take_it_all() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        roots: vec![dir.path().into()],
        // However slow this machine is: the more time, the more memory.
        file_time: std::time::Duration::from_secs(60),
        ..Settings::default()
    };
    let sources: Vec<_> = (0..6)
        .map(|event| {
            let folder = dir.path().join(event.to_string());
            fs::create_dir(&folder).unwrap();
            for file in 0..4 {
                // Each "<" may begin a list of types or compare, and nothing decides.
                let head = format!("// {event} {file}\n");
                let pairs = (settings.file_bytes - head.len()) / 2;
                fs::write(folder.join(format!("{file}.ts")), head + &"a<".repeat(pairs)).unwrap();
            }
            fs::write(folder.join("large.ts"), "a<".repeat(500_000)).unwrap();
            Source::Path(folder)
        })
        .collect();
    let analyzer = Analyzer::new(settings, Arc::new(MemoryIndex::new(64 << 20)));
    let cancel = CancellationToken::new();
    for pair in sources.chunks(2) {
        let one = analyzer.analyze(&pair[0], None, &cancel, &|_| {});
        let other = analyzer.analyze(&pair[1], None, &cancel, &|_| {});
        let (one, other) = tokio::join!(one, other);
        for report in [one.unwrap(), other.unwrap()] {
            assert_eq!(report.skipped.count(Reason::TooLarge), 1, "{:?}", report.skipped);
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak = peak.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024;
    // What a worker has beside it is some 50 MB.
    assert!(peak < 850, "{peak} MB");
}
