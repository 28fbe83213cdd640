//! Parsing in processes of its own: this program is started again for that, so it has its own `main`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests panic on failure and say what they do; threads of their own look again and again"
)]

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use analysis::apart::{Program, serve};
use analysis::catalog::Reason;
use analysis::index::memory::MemoryIndex;
use analysis::{AnalysisError, Analyzer, Report, Settings, Source};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const SERVE: &str = "parse-sources";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().is_some_and(|first| first == SERVE) {
        return serve(arguments.next().unwrap().parse().unwrap());
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        the_same().await;
        println!("the same facts, whoever parses: ok");
        costly().await;
        println!("files made to take memory: ok");
        killed().await;
        println!("a process that is killed: ok");
        no_parser().await;
        println!("a program that is no parser: ok");
        cancelled().await;
        println!("a cancelled analysis: ok");
    });
    assert_eq!(children(), Vec::<i32>::new(), "none is left behind");
    ExitCode::SUCCESS
}

struct World {
    dir: TempDir,
    settings: Settings,
    index: Arc<MemoryIndex>,
}

impl World {
    fn new(files: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let settings = Settings {
            roots: vec![dir.path().into()],
            threads: 2,
            // However slow this machine is.
            file_time: Duration::from_secs(60),
            parser: Some(Program {
                path: std::env::current_exe().unwrap(),
                argument: SERVE.into(),
            }),
            ..Settings::default()
        };
        Self {
            dir,
            settings,
            index: Arc::new(MemoryIndex::new(64 << 20)),
        }
    }

    fn analyzer(&self) -> Analyzer {
        Analyzer::new(self.settings.clone(), self.index.clone())
    }

    async fn analyze(&self) -> Report {
        run(&self.analyzer(), self.dir.path()).await.unwrap()
    }
}

async fn run(analyzer: &Analyzer, path: &Path) -> Result<Report, AnalysisError> {
    let source = Source::Path(path.into());
    analyzer
        .analyze(&source, None, &CancellationToken::new(), &|_| {})
        .await
}

/// The processes that this one has started.
fn children() -> Vec<i32> {
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let all: String = tasks.map(of).collect();
    all.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn memory(of: &str, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{of}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(what))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

async fn the_same() {
    let mut world = World::new(&[]);
    world.settings.roots = vec![Path::new(env!("CARGO_MANIFEST_DIR")).into()];
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let apart = run(&world.analyzer(), &own).await.unwrap();
    world.settings.parser = None;
    world.index = Arc::new(MemoryIndex::new(64 << 20));
    let here = run(&world.analyzer(), &own).await.unwrap();
    assert!(apart.parsed > 20, "{apart:?}");
    let but_time = |mut report: Report| {
        report.took = Duration::ZERO;
        serde_json::to_value(&report).unwrap()
    };
    assert_eq!(but_time(apart), but_time(here));
}

/// What of a grammar can mean two things makes the parser keep both, and nothing decides.
async fn costly() {
    let mut world = World::new(&[
        ("a.java", "a<".repeat(50_000)),
        ("b.java", "a<".repeat(250_000)),
        ("c.ts", "a<".repeat(100_000)),
        ("d.go", "a[".repeat(100_000)),
        ("e.rs", "fn e() {}\n".into()),
        // Small enough to wait for the one before it at the process, as the next one waits for it.
        ("f.java", "a<".repeat(10_000)),
        ("g.py", "def g(): pass\n".into()),
    ]);
    let (seen, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (peak, end) = (seen.clone(), over.clone());
    let watch = std::thread::spawn(move || {
        while !end.load(Ordering::Relaxed) {
            let most = children()
                .iter()
                .filter_map(|pid| memory(&pid.to_string(), "VmHWM:"))
                .max();
            peak.fetch_max(most.unwrap_or(0), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let report = world.analyze().await;
    over.store(true, Ordering::Relaxed);
    watch.join().unwrap();
    assert_eq!(report.skipped.count(Reason::TooCostly), 5, "{:?}", report.skipped);
    assert_eq!(report.totals.files, 2);
    let (apart, here) = (seen.load(Ordering::Relaxed), memory("self", "VmHWM:").unwrap());
    println!("  peak of a process that parses {apart} MB, of this one {here} MB");
    assert!((50..300).contains(&apart), "{apart} MB");
    assert!(here < 200, "{here} MB");

    // It is known now, until more is allowed. With no parser at all, what is tried fails.
    let parser = world.settings.parser.replace(Program {
        path: "/nowhere".into(),
        argument: SERVE.into(),
    });
    let report = world.analyze().await;
    assert_eq!(report.skipped.count(Reason::TooCostly), 5, "{:?}", report.skipped);
    world.settings.file_memory *= 4;
    let report = world.analyze().await;
    assert_eq!(
        report.skipped.count(Reason::Unreadable),
        5,
        "{:?}",
        report.skipped
    );
    world.settings.parser = parser;
    let report = world.analyze().await;
    assert_eq!(
        (report.skipped.count(Reason::TooCostly), report.parsed),
        (3, 2),
        "{:?}",
        report.skipped
    );
}

async fn killed() {
    let world = World::new(&[("a.rs", "fn a() {}\n".into()), ("b.py", "def b(): pass\n".into())]);
    let analyzer = world.analyzer();
    run(&analyzer, world.dir.path()).await.unwrap();
    let idle = children();
    assert!(!idle.is_empty());
    for pid in &idle {
        kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL).unwrap();
    }
    fs::write(world.dir.path().join("c.rs"), "fn c() {}\n").unwrap();
    let report = run(&analyzer, world.dir.path()).await.unwrap();
    assert_eq!((report.parsed, report.reused, report.totals.files), (1, 2, 3));
    assert!(!children().iter().any(|pid| idle.contains(pid)));
}

async fn no_parser() {
    let mut world = World::new(&[("a.rs", "fn a() {}\n".into())]);
    for path in ["/bin/cat", "/bin/false", "/bin/echo", "/nowhere"] {
        world.settings.parser = Some(Program {
            path: path.into(),
            argument: "-".into(),
        });
        let report = world.analyze().await;
        assert_eq!(report.skipped.count(Reason::Unreadable), 1, "{path}");
    }
}

async fn cancelled() {
    let world = World::new(&[("a.ts", "a<".repeat(500_000))]);
    let mut settings = world.settings.clone();
    settings.file_memory = 1 << 40;
    let analyzer = Analyzer::new(settings, world.index.clone());
    let (cancel, source) = (CancellationToken::new(), Source::Path(world.dir.path().into()));
    let stop = cancel.clone();
    let stopping = std::thread::spawn(move || {
        let patience = Instant::now() + Duration::from_secs(60);
        while children().is_empty() {
            assert!(Instant::now() < patience);
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.cancel();
    });
    let ended = analyzer.analyze(&source, None, &cancel, &|_| {}).await;
    assert!(matches!(ended, Err(AnalysisError::Cancelled)), "{ended:?}");
    stopping.join().unwrap();
    // Its thread ends its process as soon as it has seen this.
    let patience = Instant::now() + Duration::from_secs(60);
    while !children().is_empty() {
        assert!(Instant::now() < patience, "it goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
