//! How much memory repositories take that are made to take much. Alone in its process, whose peak it reads.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analysis::catalog::Reason;
use analysis::index::memory::MemoryIndex;
use analysis::{Analyzer, Settings, Source};
use tokio_util::sync::CancellationToken;

/// A line of this process's status, in MB.
fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Two events at a time, with the bounds that are shipped. A worker has 1 GiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_take_much_memory_are_given_up_and_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let sources: Vec<_> = (0..2)
        .map(|event| {
            let folder = dir.path().join(event.to_string());
            fs::create_dir(&folder).unwrap();
            for file in 0..4 {
                // Each "<" may begin a list of types or compare, and nothing decides.
                let text = format!("// {event} {file}\n{}", "a<".repeat(500_000));
                fs::write(folder.join(format!("{file}.ts")), text).unwrap();
            }
            Source::Path(folder)
        })
        .collect();
    let settings = Settings {
        roots: vec![dir.path().into()],
        // However slow this machine is.
        file_time: Duration::from_secs(60),
        ..Settings::default()
    };
    let index = Arc::new(MemoryIndex::new(64 << 20));
    let run = async |settings: &Settings| {
        let (analyzer, cancel) = (
            Analyzer::new(settings.clone(), index.clone()),
            CancellationToken::new(),
        );
        let one = analyzer.analyze(&sources[0], None, &cancel, &|_| {});
        let other = analyzer.analyze(&sources[1], None, &cancel, &|_| {});
        let (one, other) = tokio::join!(one, other);
        [one.unwrap().skipped, other.unwrap().skipped]
    };
    for skipped in run(&settings).await {
        assert_eq!(skipped.count(Reason::TooCostly), 4, "{skipped:?}");
    }
    let peak = memory("VmHWM:");
    assert!(peak < 600, "{peak} MB");

    // Nor is it held on to.
    let patience = Instant::now() + Duration::from_secs(60);
    while memory("RssAnon:") > 100 {
        assert!(Instant::now() < patience, "{} MB", memory("RssAnon:"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // With no time at all, what is tried times out.
    let mut settings = Settings {
        file_time: Duration::ZERO,
        ..settings
    };
    for skipped in run(&settings).await {
        assert_eq!(skipped.count(Reason::TooCostly), 4, "{skipped:?}");
    }
    settings.file_memory += 1;
    for skipped in run(&settings).await {
        assert_eq!(skipped.count(Reason::TimedOut), 4, "{skipped:?}");
    }
}
