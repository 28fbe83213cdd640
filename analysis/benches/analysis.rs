//! How fast source is read beside the bare parser, how much faster an unchanged repository is the second time, and how
//! much memory a repository larger than it takes: `cargo bench -p analysis --bench analysis`. A folder is read in parts, and
//! each of them by the bare parser too, because machines have good and bad minutes; then a repository of all of them.
//!
//! The source is that of packages this crate is built from, or of the folder that is given (`-- --of DIR`), repeated with
//! changes, so that every file is another.
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
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
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
/// Parts of a folder.
const PARTS: u64 = 16;
/// Largest file that is taken: generated tables say little of source.
const LARGEST: u64 = 200 << 10;

/// Starts this program as one that parses.
const SERVE: &str = "parse-sources";
/// Starts it as the bare parser.
const BARE: &str = "parse-bare";
/// Before the folder to take the source from.
const OF: &str = "--of";
/// Most memory of all processes together, in MB, as far as somebody looked.
static PEAK: AtomicU64 = AtomicU64::new(0);
/// Whether somebody looks.
static WATCHES: AtomicBool = AtomicBool::new(false);

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
fn write(of: Option<&str>, to: &Path) -> u64 {
    let mut found = Vec::new();
    match of {
        Some(folder) => sources(Path::new(folder), &mut found),
        None => {
            for package in packages() {
                if package.components().any(|part| part.as_os_str() == "registry") {
                    sources(&package, &mut found);
                }
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no source is there");
    let (mut bytes, mut round) = (0, 0);
    while bytes < SIZE {
        for (number, path) in found.iter().enumerate() {
            let language = Language::of(path.as_os_str().as_encoded_bytes()).unwrap();
            let mut text = format!("{} copy {round} {number}\n", comment(language)).into_bytes();
            text.extend(fs::read(path).unwrap());
            let part = bytes * PARTS / SIZE;
            let folder = to.join(format!("part-{part:02}/r{round}/d{}", number / 100));
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

/// The bare parser over files, on as many threads: bytes, and seconds of each.
fn parse_bare(dir: &Path) -> (u64, Duration, f64) {
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
    (bytes.into_inner(), start.elapsed(), processor() - used)
}

/// What something has taken.
#[derive(Clone, Copy, Default)]
struct Spent {
    bytes: u64,
    /// Seconds.
    time: f64,
    /// Seconds of processors.
    used: f64,
}

impl Spent {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.time += other.time;
        self.used += other.used;
    }
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.bytes as f64 / 1e6;
        let (rate, of_one) = (bytes / self.time, bytes / self.used);
        write!(
            f,
            "{bytes:.1} MB in {:.2} s = {rate:.1} MB/s, {of_one:.1} MB a second of one processor",
            self.time
        )
    }
}

/// The bare parser, in a process that leaves nothing behind.
fn bare(dir: &Path) -> Spent {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg(BARE)
        .arg(dir)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<f64> = told
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    Spent {
        bytes: told[0] as u64,
        time: told[1],
        used: told[2],
    }
}

async fn analyze(analyzer: &Analyzer, path: &Path) -> (Report, Spent) {
    let (start, used) = (Instant::now(), processor());
    let source = Source::Path(path.into());
    let report = analyzer
        .analyze(&source, None, &CancellationToken::new(), &|_| {})
        .await
        .unwrap();
    assert!(report.complete, "{:?}", report.reached);
    assert_eq!(report.skipped.0.len(), 0, "{:?}", report.skipped);
    let spent = Spent {
        bytes: report.totals.bytes,
        time: start.elapsed().as_secs_f64(),
        used: processor() - used,
    };
    (report, spent)
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

/// What is still to be written to disk would be written meanwhile.
fn sync() {
    assert!(Command::new("sync").status().unwrap().success());
}

/// Each part of a folder by the bare parser and by the analyzer, in turns.
fn in_turns(folder: &Path, analyze: impl Fn(&Path) -> Spent) -> Spent {
    let mut parts: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|part| part.unwrap().path())
        .collect();
    parts.sort();
    let (mut parsed, mut analyzed, mut ratios) = (Spent::default(), Spent::default(), Vec::new());
    for part in parts {
        let (one, other) = (bare(&part), analyze(&part));
        assert_eq!(one.bytes, other.bytes);
        ratios.push(one.time / other.time);
        parsed.add(one);
        analyzed.add(other);
    }
    ratios.sort_by(f64::total_cmp);
    println!("  bare parser: {parsed}\n  first: {analyzed}");
    println!(
        "  {:.2} of the bare parser by time, {:.2} by processors; parts from {:.2} to {:.2}, median {:.2}",
        parsed.time / analyzed.time,
        parsed.used / analyzed.used,
        ratios[0],
        ratios[ratios.len() - 1],
        ratios[ratios.len() / 2]
    );
    analyzed
}

fn told_again(first: Spent, report: &Report, again: Spent) {
    println!(
        "  again: {:.2} s, {:.1} times faster; parsed {}, reused {}",
        again.time,
        first.time / again.time,
        report.parsed,
        report.reused
    );
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [SERVE, memory] => return serve(memory.parse().unwrap()),
        [BARE, dir] => {
            let (bytes, took, used) = parse_bare(Path::new(dir));
            println!("{bytes} {} {used}", took.as_secs_f64());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let of = arguments
        .iter()
        .position(|one| one == OF)
        .map(|at| arguments[at + 1].as_str());
    std::thread::spawn(|| {
        loop {
            if WATCHES.load(Ordering::Relaxed) {
                PEAK.fetch_max(memory(), Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let (folder, repository) = (dir.path().join("folder"), dir.path().join("repository"));
    write(of, &folder);
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
    let analyzer = || Analyzer::new(settings.clone(), Arc::new(MemoryIndex::new(96 << 20)));
    println!("folder");
    sync();
    let one = analyzer();
    let first = in_turns(&folder, |part| runtime.block_on(analyze(&one, part)).1);
    let (report, again) = runtime.block_on(analyze(&one, &folder));
    told_again(first, &report, again);
    println!(
        "  {:?}\n  {:?}",
        report
            .languages
            .iter()
            .map(|(one, totals)| (one.name(), totals.files, totals.bytes))
            .collect::<Vec<_>>(),
        report.totals
    );
    drop(one);

    println!("repository");
    fs::rename(&folder, &repository).unwrap();
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["add", "--all", "--force"]);
    git(&repository, &["commit", "--quiet", "--message=all"]);
    git(
        &repository,
        &["repack", "-a", "-d", "--quiet", "--threads=2", "--window=2"],
    );
    sync();
    println!("  bare parser: {}", bare(&repository));
    WATCHES.store(true, Ordering::Relaxed);
    let two = analyzer();
    let (_, first) = runtime.block_on(analyze(&two, &repository));
    WATCHES.store(false, Ordering::Relaxed);
    println!(
        "  first: {first}; peak {} MB, now {} MB",
        PEAK.load(Ordering::Relaxed),
        memory()
    );
    println!("  bare parser: {}", bare(&repository));
    let (report, again) = runtime.block_on(analyze(&two, &repository));
    told_again(first, &report, again);
    ExitCode::SUCCESS
}
