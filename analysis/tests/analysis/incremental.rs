//! What was read once is not read again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use analysis::index::memory::MemoryIndex;
use analysis::{AnalysisError, Analyzer, Source};
use tokio_util::sync::CancellationToken;

use crate::world::{World, commit};

fn many(world: &World) {
    for number in 0..130 {
        world.write(
            &format!("src/f{number}.py"),
            format!("def f{number}(x):\n    return x if x else {number}\n"),
        );
    }
}

#[tokio::test]
async fn an_unchanged_folder_is_not_parsed_and_a_changed_file_alone_is() {
    let world = World::new();
    many(&world);
    let first = world.analyze().await.unwrap();
    assert_eq!((first.parsed, first.reused, first.totals.files), (130, 0, 130));
    let second = world.analyze().await.unwrap();
    assert_eq!((second.parsed, second.reused), (0, 130));
    assert_eq!(
        (&second.totals, &second.largest, &second.most_complex_functions),
        (&first.totals, &first.largest, &first.most_complex_functions)
    );
    world.write("src/f7.py", "def changed(): pass\n");
    let third = world.analyze().await.unwrap();
    assert_eq!((third.parsed, third.reused), (1, 129));
    // The same content elsewhere is known; the same content in another language is other facts.
    world.write("src/copy.py", "def changed(): pass\n");
    world.write("src/copy.c", "def changed(): pass\n");
    let fourth = world.analyze().await.unwrap();
    assert_eq!((fourth.parsed, fourth.reused), (1, 131));
}

#[tokio::test]
async fn an_unchanged_repository_is_not_parsed_whatever_its_history() {
    let world = World::new();
    many(&world);
    commit(world.path());
    assert_eq!(world.analyze().await.unwrap().parsed, 130);
    world.write("src/f7.py", "def changed(): pass\n");
    // What is not committed is not seen.
    assert_eq!(world.analyze().await.unwrap().parsed, 0);
    commit(world.path());
    let changed = world.analyze().await.unwrap();
    assert_eq!((changed.parsed, changed.reused), (1, 129));
    let before = world.analyze_at(world.path(), Some("main")).await.unwrap();
    assert_eq!(before.parsed, 0);
}

#[tokio::test]
async fn facts_that_do_not_fit_are_read_again() {
    let mut world = World::new();
    many(&world);
    world.index = Arc::new(MemoryIndex::new(10_000));
    world.analyze().await.unwrap();
    assert!(!world.index.is_empty() && world.index.len() < 130);
    let second = world.analyze().await.unwrap();
    assert_eq!(second.parsed + second.reused, 130);
    assert!(second.parsed > 0);
}

#[tokio::test]
async fn progress_is_told_and_ends_at_all_files() {
    let world = World::new();
    many(&world);
    world.write("src/bin.py", b"\0\0");
    let (calls, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let analyzer = Analyzer::new(world.settings.clone(), world.index.clone());
    let source = Source::Path(world.path().into());
    let report = analyzer
        .analyze(&source, None, &CancellationToken::new(), &|told| {
            assert_eq!(told.files, 131);
            assert!(told.done > done.load(Ordering::Relaxed) && told.bytes > 0);
            done.store(told.done, Ordering::Relaxed);
            calls.fetch_add(1, Ordering::Relaxed);
        })
        .await
        .unwrap();
    assert_eq!((calls.into_inner(), done.into_inner()), (3, 131));
    assert!(report.complete);
}

#[tokio::test]
async fn a_cancelled_analysis_ends() {
    let world = World::new();
    many(&world);
    let cancel = CancellationToken::new();
    let analyzer = Analyzer::new(world.settings.clone(), world.index.clone());
    let source = Source::Path(world.path().into());
    let ended = analyzer
        .analyze(&source, None, &cancel, &|_| cancel.cancel())
        .await;
    assert!(matches!(ended, Err(AnalysisError::Cancelled)), "{ended:?}");
    let before = analyzer.analyze(&source, None, &cancel, &|_| {}).await;
    assert!(matches!(before, Err(AnalysisError::Cancelled)), "{before:?}");
    // The analyzer itself goes on.
    let again = analyzer
        .analyze(&source, None, &CancellationToken::new(), &|_| {})
        .await;
    assert_eq!(again.unwrap().totals.files, 130);
}
