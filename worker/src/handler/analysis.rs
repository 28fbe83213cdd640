//! `analysis`: reads a repository and tells what its code is made of: languages, symbols, sizes, complexity, who depends
//! on whom. What is known of a file's content is kept, and only what changed is read again.
//!
//! An event's data: `{"repository": "octo/hello", "revision": "main"}`. The repository is a name at the service's `_URL`,
//! an `https://` URL, or a path below one of `_ROOTS`; without a revision it is HEAD.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use analysis::apart::Program;
use analysis::index::memory::MemoryIndex;
use analysis::index::postgres::PostgresIndex;
use analysis::{AnalysisError, Analyzer, Source};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use shared::config::Reader;
use shared::event::Event;
use shared::failure::Failure;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::{Completion, Handler, Kind, Make, Parts};
use crate::config::ServiceConfig;
use crate::effect::Policy;
use crate::provider::Provider;
use crate::quota::Turn;

/// `analysis`, as workers know it. An analysis can be made again at any time.
pub const KIND: Kind = Kind {
    name: "analysis",
    url: "https://github.com",
    types: &[],
    concurrency: 2,
    timeout: Duration::from_secs(600),
    provider: Provider::Other,
    unknown: Policy::Retry,
    charged_apart: &[],
    own_endpoint: false,
    caches: false,
    read: Settings::read,
};

/// Bytes that are remembered of what was read, where there is no Postgres to keep it.
const REMEMBERED: usize = 64 << 20;

const DAY: Duration = Duration::from_secs(86_400);
/// How long the tables keep what is old.
const KEEP: Duration = Duration::from_secs(30 * 86_400);

/// With this argument and a number of bytes a worker only parses what another one asks it to.
const PARSE: &str = "parse-sources";

/// What the crate calls the bounds that people set here, and how they are called here.
const NAMED: [(&str, &str); 4] = [
    ("roots", "ROOTS"),
    ("allow_private", "PRIVATE"),
    ("fetch_bytes", "FETCH_BYTES"),
    ("object_bytes", "OBJECT_BYTES"),
];

/// Parses for another worker, if this process was started for that; to be called before it has threads.
pub fn parse_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    arguments.next().filter(|first| first == PARSE)?;
    let memory = arguments.next().and_then(|memory| memory.parse().ok());
    Some(memory.map_or(ExitCode::FAILURE, analysis::apart::serve))
}

/// This program, whatever has become of its file since it was started. A test's program is no worker, and parses by itself.
fn parser() -> Option<Program> {
    (!cfg!(test)).then(|| Program {
        path: "/proc/self/exe".into(),
        argument: PARSE.into(),
    })
}

/// `_ROOTS`, `_CACHE`, `_CACHE_BYTES`, `_FETCH_BYTES`, `_OBJECT_BYTES`, `_FILE_BYTES`, `_FILE_MEMORY`, `_THREADS`,
/// `_PRIVATE`, `_KEEP`.
#[derive(Debug)]
struct Settings {
    bounds: analysis::Settings,
    keep: Duration,
    prefix: String,
}

impl Settings {
    fn read(reader: &mut Reader<'_>, prefix: &str) -> Arc<dyn Make> {
        let name = |suffix: &str| format!("{prefix}_{suffix}");
        let default = analysis::Settings::default();
        let cache = std::env::temp_dir().join("weir-repositories");
        let cache_bytes = reader.bytes(&name("CACHE_BYTES"), 2 << 30, 1 << 20..=1 << 44);
        let object_bytes = default.object_bytes as u64;
        let bounds = analysis::Settings {
            roots: reader.list(&name("ROOTS"), "", |root| {
                let root = PathBuf::from(root);
                if root.is_absolute() {
                    Ok(root)
                } else {
                    Err("is no absolute path".to_owned())
                }
            }),
            cache: Some(reader.text(&name("CACHE"), &cache.to_string_lossy()).into()),
            cache_bytes,
            // A fetch must fit into what is kept.
            fetch_bytes: reader.bytes(
                &name("FETCH_BYTES"),
                default.fetch_bytes.min(cache_bytes),
                1 << 20..=cache_bytes,
            ),
            object_bytes: reader.bytes(&name("OBJECT_BYTES"), object_bytes, 1 << 20..=1 << 32) as usize,
            file_bytes: reader.bytes(&name("FILE_BYTES"), default.file_bytes as u64, 1 << 10..=64 << 20)
                as usize,
            file_memory: reader.bytes(&name("FILE_MEMORY"), default.file_memory, 16 << 20..=1 << 40),
            parser: parser(),
            threads: reader.number(&name("THREADS"), default.threads as u64, 1..=256) as usize,
            allow_private: reader.with(
                &name("PRIVATE"),
                false,
                |text| match text {
                    "allow" => Ok(true),
                    "refuse" => Ok(false),
                    other => Err(format!("is {other:?}: must be allow or refuse")),
                },
                |allow| if *allow { "allow" } else { "refuse" }.into(),
            ),
            ..default
        };
        let keep = reader.duration(&name("KEEP"), KEEP, DAY..=DAY * 3650);
        let prefix = prefix.to_owned();
        Arc::new(Self { bounds, keep, prefix })
    }
}

impl Make for Settings {
    /// Most of what is asked for may lie elsewhere.
    fn calls_its_url(&self) -> bool {
        false
    }

    fn make(&self, _: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String> {
        let settings = self.bounds.clone();
        let (analyzer, tables) = match parts.database {
            Some(database) => {
                let index = PostgresIndex::new(database);
                (Analyzer::new(settings, Arc::new(index.clone())), Some(index))
            }
            // What is known is forgotten with this process.
            None => (
                Analyzer::new(settings, Arc::new(MemoryIndex::new(REMEMBERED))),
                None,
            ),
        };
        Ok(Arc::new(Analysis {
            analyzer,
            tables,
            made: OnceCell::new(),
            keep: self.keep,
            prunes: Mutex::new(Instant::now()),
            prefix: self.prefix.clone(),
        }))
    }
}

/// Reads repositories, with all threads of one pool.
#[derive(Debug)]
struct Analysis {
    analyzer: Analyzer,
    tables: Option<PostgresIndex>,
    /// Whether its tables are there.
    made: OnceCell<()>,
    /// How long they keep what no later analysis has replaced.
    keep: Duration,
    /// When they are pruned next.
    prunes: Mutex<Instant>,
    /// How its settings begin.
    prefix: String,
}

/// An event's data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    repository: String,
    #[serde(default)]
    revision: Option<String>,
}

fn wanted(event: &Event) -> Result<Wanted, Failure> {
    let bad = |what: String| Failure::permanent("repository", format!("data names none: {what}"));
    let data = event.data.to_json().map_err(bad)?;
    let data = data.ok_or_else(|| bad("it is empty or no JSON".to_owned()))?;
    serde_json::from_value(data).map_err(|error| bad(error.to_string()))
}

/// A name such as `octo/hello`, which belongs to the service's own server.
fn is_name(repository: &str) -> bool {
    let part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
    };
    repository.contains('/') && repository.split('/').all(part)
}

/// Names the setting that is in the way as people know it, where it is one of theirs.
fn failure(error: &AnalysisError, prefix: &str) -> Failure {
    let code = match error {
        AnalysisError::Refused(_) | AnalysisError::NotAllowed { .. } => "refused",
        AnalysisError::NotFound(_) => "not_found",
        AnalysisError::Fetch(_) => "fetch",
        AnalysisError::TooMuch { .. } => "too_much",
        AnalysisError::Broken(_) => "broken",
        AnalysisError::Index(_) => "index",
        AnalysisError::Cancelled => "cancelled",
        AnalysisError::Internal(_) => "internal",
    };
    let named = error.setting().and_then(|setting| {
        let of = |(theirs, ours): &(&str, &'static str)| (*theirs == setting).then_some(*ours);
        NAMED.iter().find_map(of)
    });
    let detail = match named {
        Some(name) => format!("{error}: {prefix}_{name}"),
        None => error.to_string(),
    };
    if error.is_transient() {
        Failure::transient(code, detail)
    } else {
        Failure::permanent(code, detail)
    }
}

impl Analysis {
    async fn analyze(&self, event: &Event, turn: &Turn) -> Result<Completion, Failure> {
        let wanted = wanted(event)?;
        if let Some(tables) = &self.tables {
            let made = self.made.get_or_try_init(async || tables.migrate().await).await;
            made.map_err(|error| Failure::transient("index", error))?;
        }
        let source = if is_name(&wanted.repository) {
            let base = &turn.upstream()?.base;
            Source::parse(&format!("{base}/{}", wanted.repository))
        } else {
            Source::parse(&wanted.repository)
        };
        let source = source.map_err(|error| failure(&error, &self.prefix))?;
        let cancel = CancellationToken::new();
        let report = self
            .analyzer
            .analyze(&source, wanted.revision.as_deref(), &cancel, &|_| {})
            .await
            .map_err(|error| failure(&error, &self.prefix))?;
        self.prune();
        let result = serde_json::to_value(&report).map_err(|error| Failure::permanent("report", error))?;
        let code = if report.complete {
            "analyzed"
        } else {
            "analyzed_in_part"
        };
        Ok(Completion::with(code, result))
    }
}

impl Analysis {
    /// Removes what is old from the tables, once a day, while the event goes on. A process that ends meanwhile leaves the
    /// rest to another.
    fn prune(&self) {
        let Some(tables) = self.tables.clone() else { return };
        {
            let (now, mut next) = (
                Instant::now(),
                self.prunes.lock().unwrap_or_else(PoisonError::into_inner),
            );
            if now < *next {
                return;
            }
            *next = now + DAY;
        }
        let keep = self.keep;
        tokio::spawn(async move {
            match tables.prune(keep).await {
                Ok(pruned) => tracing::info!(
                    runs = pruned.runs,
                    facts = pruned.facts,
                    "old analyses are removed"
                ),
                Err(error) => tracing::warn!(%error, "old analyses are not removed, and will be tomorrow"),
            }
        });
    }
}

impl Handler for Analysis {
    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Result<Completion, Failure>> {
        self.analyze(event, turn).boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use serde_json::{Value, json};
    use shared::servers::{Postgres, PostgresOptions};

    use super::super::stage::{Stage, event};
    use super::*;

    #[tokio::test]
    async fn a_folder_is_told_about() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, cache) = (scratch.path().join("code"), scratch.path().join("cache"));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("one.rs"), "pub fn one() -> u32 { 1 }\n").unwrap();
        let settings = [
            ("ROOTS", root.to_str().unwrap()),
            ("CACHE", cache.to_str().unwrap()),
        ];
        let stage = Stage::new(&KIND, "http://127.0.0.1:1", &settings);
        let data = json!({"repository": root.to_str().unwrap()});
        let done = stage.handle(&event("analyze", &data)).await.unwrap();
        let report = done.result.unwrap();
        assert_eq!(
            (&*done.code, &report["totals"]["functions"]),
            ("analyzed", &json!(1))
        );
        // Nothing changed, nothing is read again.
        let again = stage
            .handle(&event("analyze", &data))
            .await
            .unwrap()
            .result
            .unwrap();
        assert_eq!((&again["parsed"], &again["reused"]), (&json!(0), &json!(1)));
    }

    #[tokio::test]
    async fn what_is_old_is_removed_from_the_tables() {
        let scratch = shared::servers::scratch_dir().unwrap();
        let code = scratch.path().join("code");
        std::fs::create_dir(&code).unwrap();
        std::fs::write(code.join("one.rs"), "fn one() {}\n").unwrap();
        let server = Postgres::start(PostgresOptions::new(scratch.path().join("data")))
            .await
            .unwrap();
        server.create_database("weir").await.unwrap();
        let pool = sqlx::PgPool::connect(&server.url("weir")).await.unwrap();
        let tables = PostgresIndex::new(pool.clone());
        tables.migrate().await.unwrap();
        let old =
            "INSERT INTO analysis.facts (key, facts, kept_at) VALUES ('a', 'a', now() - interval '40 days'),
            ('b', 'b', now() - interval '20 days')";
        sqlx::query(old).execute(&pool).await.unwrap();

        let settings = analysis::Settings {
            roots: vec![code.clone()],
            ..analysis::Settings::default()
        };
        let handler = Analysis {
            analyzer: Analyzer::new(settings, Arc::new(tables.clone())),
            tables: Some(tables),
            made: OnceCell::new(),
            keep: KEEP,
            prunes: Mutex::new(Instant::now()),
            prefix: "WEIR_SERVICE_ANALYSIS".into(),
        };
        let stage = Stage::new(&KIND, "http://127.0.0.1:1", &[]);
        let event = event("analyze", &json!({"repository": code.to_str().unwrap()}));
        handler.handle(&event, &stage.turn().await).await.unwrap();
        // The event does not wait for it.
        let left = async || {
            let count = "SELECT count(*) FROM analysis.facts";
            sqlx::query_scalar::<_, i64>(count)
                .fetch_one(&pool)
                .await
                .unwrap()
        };
        let patience = Instant::now() + Duration::from_secs(60);
        while left().await != 2 {
            assert!(Instant::now() < patience, "it stays");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(*handler.prunes.lock().unwrap() > Instant::now() + DAY / 2);
    }

    #[tokio::test]
    async fn what_cannot_be_analyzed_is_told_and_what_may_be_later_is_tried_again() {
        let stage = Stage::new(&KIND, "http://127.0.0.1:1", &[("PRIVATE", "allow")]);
        for (data, code, permanent) in [
            (Value::Null, "repository", true),
            (json!({"repository": 7}), "repository", true),
            (json!({"repository": "a/b", "branch": "x"}), "repository", true),
            (json!({"repository": "/etc"}), "refused", true),
            (json!({"repository": "a/../b"}), "refused", true),
            (json!({"repository": "ssh://git@h/x"}), "refused", true),
            (json!({"repository": "a/b", "revision": "x..y"}), "refused", true),
            // A name belongs to the service's server, where nobody listens.
            (json!({"repository": "octo/hello"}), "fetch", false),
        ] {
            let failure = stage.handle(&event("analyze", &data)).await.unwrap_err();
            assert_eq!(&*failure.reason().code, code, "{data}: {failure:?}");
            assert_eq!(matches!(failure, Failure::Permanent { .. }), permanent, "{data}");
        }
        let outside = json!({"repository": "/etc"});
        let failure = stage.handle(&event("analyze", &outside)).await.unwrap_err();
        let said = &failure.reason().detail;
        assert!(said.contains("WEIR_SERVICE_ANALYSIS_ROOTS"), "{said}");
    }
}
