//! How fast source is read beside the bare parser, how much faster an unchanged repository is the second time, and how
//! much memory a repository larger than it takes: `cargo bench -p analysis --bench analysis`.
//!
//! The source is that of packages this crate is built from, repeated with changes, so that every file is another.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark talks to people and fails by panicking; a thread of its own looks at its memory"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use analysis::apart::{Program, serve};
use analysis::index::memory::MemoryIndex;
use analysis::language::Language;
use analysis::{Analyzer, Report, Settings, Source};
use tokio_util::sync::CancellationToken;
use tree_sitter::Parser;

/// Bytes of the repository.
const SIZE: u64 = 320 << 20;
const THREADS: usize = 2;
/// Largest file that is taken: generated tables say little of source.
const LARGEST: u64 = 200 << 10;

/// Starts this program as one that parses.
const SERVE: &str = "parse-sources";
/// Most memory of all processes together, in MB, as far as somebody looked.
static PEAK: AtomicU64 = AtomicU64::new(0);

/// This process and those that parse for it.
fn family() -> Vec<String> {
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let children: String = tasks.map(of).collect();
    let children = children.split_whitespace().map(str::to_owned);
    children.chain(["self".to_owned()]).collect()
}

/// Of all of them, in MB.
fn memory() -> u64 {
    let of = |pid: String| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    family().into_iter().filter_map(of).sum::<u64>() / 1024
}

/// Seconds of processor that they have used: what is left of a rate when others use the processors too.
fn processor() -> f64 {
    let of = |pid: String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        // Its own, and that of its children that have ended.
        let fields = rest.split_whitespace().skip(11).take(4);
        Some(fields.map(|field| field.parse::<u64>().unwrap()).sum::<u64>())
    };
    // In hundredths on every Linux.
    family().into_iter().filter_map(of).sum::<u64>() as f64 / 100.0
}

fn packages() -> Vec<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = told["packages"].as_array().unwrap().iter();
    all.filter_map(|package| Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned()))
        .collect()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.metadata()) else {
            continue;
        };
        if meta.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if meta.is_file()
            && meta.len() < LARGEST
            && Language::of(path.as_os_str().as_encoded_bytes()).is_some()
        {
            found.push(path);
        }
    }
}

fn comment(language: Language) -> &'static str {
    if language == Language::Python { "#" } else { "//" }
}

/// Writes the files, each time with another first line.
fn write(to: &Path) -> u64 {
    let mut found = Vec::new();
    for package in packages() {
        if package.components().any(|part| part.as_os_str() == "registry") {
            sources(&package, &mut found);
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no package's source is here");
    let (mut bytes, mut round) = (0, 0);
    while bytes < SIZE {
        for (number, path) in found.iter().enumerate() {
            let language = Language::of(path.as_os_str().as_encoded_bytes()).unwrap();
            let mut text = format!("{} copy {round} {number}\n", comment(language)).into_bytes();
            text.extend(fs::read(path).unwrap());
            let folder = to.join(format!("r{round}/d{}", number / 100));
            fs::create_dir_all(&folder).unwrap();
            let name = path.file_name().unwrap().to_string_lossy();
            fs::write(folder.join(format!("{number}_{name}")), &text).unwrap();
            bytes += text.len() as u64;
            if bytes >= SIZE {
                break;
            }
        }
        round += 1;
    }
    bytes
}

/// The bare parser over the same files, on as many threads.
fn bare(dir: &Path) -> (u64, f64, f64) {
    let mut files = Vec::new();
    sources(dir, &mut files);
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let (start, used) = (Instant::now(), processor());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut parser = Parser::new();
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let grammar: tree_sitter::Language =
                        match Language::of(path.as_os_str().as_encoded_bytes()) {
                            Some(Language::Rust) => tree_sitter_rust::LANGUAGE.into(),
                            Some(Language::Python) => tree_sitter_python::LANGUAGE.into(),
                            Some(Language::JavaScript) => tree_sitter_javascript::LANGUAGE.into(),
                            Some(Language::TypeScript) => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
                            Some(Language::Tsx) => tree_sitter_typescript::LANGUAGE_TSX.into(),
                            Some(Language::Go) => tree_sitter_go::LANGUAGE.into(),
                            Some(Language::Java) => tree_sitter_java::LANGUAGE.into(),
                            Some(Language::C) => tree_sitter_c::LANGUAGE.into(),
                            None => continue,
                        };
                    parser.set_language(&grammar).unwrap();
                    let text = fs::read(path).unwrap();
                    bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
                    std::hint::black_box(parser.parse(&text, None).unwrap());
                }
            });
        }
    });
    (
        bytes.into_inner(),
        start.elapsed().as_secs_f64(),
        processor() - used,
    )
}

async fn analyze(analyzer: &Analyzer, path: &Path) -> (Report, f64, f64) {
    let (start, used) = (Instant::now(), processor());
    let source = Source::Path(path.into());
    let report = analyzer
        .analyze(&source, None, &CancellationToken::new(), &|_| {})
        .await
        .unwrap();
    assert!(report.complete, "{:?}", report.reached);
    (report, start.elapsed().as_secs_f64(), processor() - used)
}

fn git(at: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args([
            "-c",
            "user.name=Weir",
            "-c",
            "user.email=weir@localhost",
            "-c",
            "gc.auto=0",
        ])
        .args(arguments)
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status()
        .unwrap();
    assert!(status.success());
}

fn told(what: &str, bytes: u64, report: &Report, seconds: f64, used: f64) {
    let rate = bytes as f64 / 1e6 / seconds;
    let (whole, own) = (PEAK.load(Ordering::Relaxed), memory());
    println!(
        "{what}: {:.1} MB in {seconds:.2} s = {rate:.1} MB/s, {:.1} MB a second of one processor; parsed {}, reused {}; peak {whole} MB, now {own} MB",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / used,
        report.parsed,
        report.reused
    );
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().is_some_and(|first| first == SERVE) {
        return serve(arguments.next().unwrap().parse().unwrap());
    }
    std::thread::spawn(|| {
        loop {
            PEAK.fetch_max(memory(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let (folder, repository) = (dir.path().join("folder"), dir.path().join("repository"));
    let bytes = write(&folder);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let settings = Settings {
        roots: vec![dir.path().into()],
        threads: THREADS,
        parser: Some(Program {
            path: std::env::current_exe().unwrap(),
            argument: SERVE.into(),
        }),
        ..Settings::default()
    };
    // The analyses come before the bare parser, so that the peak is theirs.
    let one = Analyzer::new(settings.clone(), Arc::new(MemoryIndex::new(96 << 20)));
    let (first, took, used) = runtime.block_on(analyze(&one, &folder));
    told("folder, first", bytes, &first, took, used);
    println!(
        "  {:?}",
        first
            .languages
            .iter()
            .map(|(l, t)| (l.name(), t.files, t.bytes))
            .collect::<Vec<_>>()
    );
    println!(
        "  {:?} {:?}",
        first.totals,
        first
            .skipped
            .0
            .iter()
            .map(|(r, p)| (r, p.count))
            .collect::<Vec<_>>()
    );
    let (second, again, used) = runtime.block_on(analyze(&one, &folder));
    told("folder, second", bytes, &second, again, used);
    println!("folder: the second run is {:.1} times faster", took / again);
    drop(one);

    fs::rename(&folder, &repository).unwrap();
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["add", "--all", "--force"]);
    git(&repository, &["commit", "--quiet", "--message=all"]);
    git(
        &repository,
        &["repack", "-a", "-d", "--quiet", "--threads=2", "--window=2"],
    );
    let two = Analyzer::new(settings, Arc::new(MemoryIndex::new(96 << 20)));
    let (third, took, used) = runtime.block_on(analyze(&two, &repository));
    told("repository, first", bytes, &third, took, used);
    let (fourth, again, used) = runtime.block_on(analyze(&two, &repository));
    told("repository, second", bytes, &fourth, again, used);
    println!("repository: the second run is {:.1} times faster", took / again);

    let (bytes, seconds, used) = bare(&repository);
    println!(
        "bare parser: {:.1} MB in {seconds:.2} s = {:.1} MB/s, {:.1} MB a second of one processor",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds,
        bytes as f64 / 1e6 / used
    );
    ExitCode::SUCCESS
}
