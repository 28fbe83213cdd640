//! A database for a test, and accesses for it.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sha2::{Digest as _, Sha256};
use shared::access::read::{self, Reader};
use shared::access::write::Writer;
use shared::access::{Access, AccessMetrics, Asked, Digest, Found, Notes, Share, What};
use shared::event::Data;
use shared::servers::{Postgres, PostgresOptions, scratch_dir};
use shared::store::metrics::Metrics;
use shared::store::migrate::migrate;
use shared::store::pool;
use shared::store::reads::Reads;
use shared::store::settings::{Settings, Size};
use shared::subject::Service;
use sqlx::{AssertSqlSafe, PgPool};

pub(crate) const SIZE: Size = Size { least: 0, most: 4 };

pub(crate) struct World {
    pub(crate) server: Postgres,
    pub(crate) pool: PgPool,
    _dir: tempfile::TempDir,
}

pub(crate) async fn world() -> World {
    let dir = scratch_dir().unwrap();
    let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
    server.create_database("weir").await.unwrap();
    let pool = pool::write(&server.url("weir"), &Settings::default(), SIZE, "test").unwrap();
    migrate(&pool).await.unwrap();
    World {
        server,
        pool,
        _dir: dir,
    }
}

impl World {
    pub(crate) fn worker(&self, name: &str, share: Share) -> Worker {
        Worker::over(self.pool.clone(), name, share)
    }

    pub(crate) fn reads(&self) -> Reads {
        let url = self.server.url("weir");
        Reads::open(&url, &Settings::default(), SIZE, "test", Metrics::default()).unwrap()
    }

    /// Over the pool that a scheduler reads by.
    pub(crate) fn since(&self, from_ms: u64) -> Reader {
        read::since(self.reads().primary(), &github(), from_ms)
    }

    pub(crate) async fn number(&self, question: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(question.to_owned()))
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn run(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&self.pool)
            .await
            .unwrap();
    }
}

/// Where one worker notes, and what writes it.
pub(crate) struct Worker {
    pub(crate) notes: Notes,
    pub(crate) writer: Writer,
    registry: Registry,
}

impl Worker {
    pub(crate) fn over(pool: PgPool, name: &str, share: Share) -> Self {
        let mut registry = Registry::default();
        let notes = Notes::new(share, &[github()], AccessMetrics::register(&mut registry));
        Self {
            writer: Writer::new(pool, notes.clone(), name),
            notes,
            registry,
        }
    }

    pub(crate) fn note(&self, name: &str, access: Access) {
        self.notes
            .note(&github(), digest(name), access, || Some(what(name)));
    }

    /// A counter of the service, 0 where there is none.
    pub(crate) fn count(&self, metric: &str, labels: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let line = format!("{metric}_total{{service=\"github\"{labels}}} ");
        let value = text.lines().find_map(|l| l.strip_prefix(&line));
        value.map_or(0, |value| value.parse().unwrap())
    }

    pub(crate) fn dropped(&self, why: &str) -> u64 {
        self.count(shared::access::DROPPED, &format!(",why=\"{why}\""))
    }
}

pub(crate) fn github() -> Service {
    Service::new("github").unwrap()
}

pub(crate) fn digest(name: &str) -> Digest {
    Digest(Sha256::digest(name).into())
}

pub(crate) fn what(name: &str) -> What {
    let asked = Asked {
        kind: "call".into(),
        data: Data::json(format!("{{\"path\":\"{name}\"}}")),
    };
    What::new(name, None, asked).unwrap()
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// An access of a key, now.
pub(crate) fn access(name: &str, found: Found) -> Access {
    Access {
        at_ms: now_ms(),
        key: digest(name).id(),
        actor: Some(7),
        repository: None,
        found,
        fetch_ms: (found == Found::Nowhere).then_some(120),
    }
}

/// All that there is to read until there is no more.
pub(crate) async fn all(reader: &mut Reader) -> Vec<Access> {
    let mut all = Vec::new();
    loop {
        let step = reader.next().await.unwrap();
        all.extend(step.accesses);
        if !step.more {
            return all;
        }
    }
}
