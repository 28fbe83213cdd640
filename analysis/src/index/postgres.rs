//! Facts, files and dependencies in Postgres, in a schema of their own.

mod questions;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use sqlx::PgPool;

pub use questions::{Dependent, FileSize, Importer, Place};

use super::{Entry, FileRow, Index, IndexError};
use crate::facts::{Facts, Key};
use crate::report::Report;

/// An index in Postgres. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PostgresIndex {
    pool: PgPool,
}

impl From<sqlx::Error> for IndexError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

/// Runs that one statement removes; each has as many rows as its repository has files.
const RUNS_AT_ONCE: u64 = 10;
/// Facts that one statement removes.
const FACTS_AT_ONCE: u64 = 2000;

/// How much was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Runs.
    pub runs: u64,
    /// Contents whose facts were kept.
    pub facts: u64,
}

/// Postgres counts to 2^31.
fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl PostgresIndex {
    /// An index in the pool's database. [`PostgresIndex::migrate`] makes its tables.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Makes or changes the tables. Others' migrations in the same database are not touched: these are counted in a
    /// table of the schema `analysis`.
    ///
    /// # Errors
    /// No database, no right to make a schema, or tables of a newer version.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        let mut migrator = sqlx::migrate!();
        migrator.create_schema("analysis");
        migrator.dangerous_set_table_name("analysis.migrations");
        migrator.run(&self.pool).await
    }

    /// Removes what is older than `age`: runs that never finished, runs of a source that has a later one of whatever revision,
    /// and facts that no kept run needs. Take a day or more: an analysis that goes on meanwhile and counts on some of it
    /// fails, and succeeds the next time.
    ///
    /// # Errors
    /// The database does not answer. What has been removed until then stays so.
    pub async fn prune(&self, age: Duration) -> Result<Pruned, IndexError> {
        const RUNS: &str = "DELETE FROM analysis.runs WHERE id IN (
            SELECT id FROM analysis.runs AS old
            WHERE coalesce(finished_at, began_at) < now() - $1 * interval '1 second'
            AND (finished_at IS NULL OR EXISTS (SELECT FROM analysis.runs AS new
                WHERE new.source = old.source AND (new.finished_at, new.id) > (old.finished_at, old.id)))
            LIMIT $2)";
        // What an analysis is just about to need is locked by it.
        const FACTS: &str = "DELETE FROM analysis.facts WHERE id IN (
            SELECT id FROM analysis.facts AS old WHERE kept_at < now() - $1 * interval '1 second'
            AND NOT EXISTS (SELECT FROM analysis.files WHERE facts = old.id)
            LIMIT $2 FOR UPDATE SKIP LOCKED)";
        Ok(Pruned {
            runs: self.remove(RUNS, age, RUNS_AT_ONCE).await?,
            facts: self.remove(FACTS, age, FACTS_AT_ONCE).await?,
        })
    }

    /// So many at once, so that others wait shortly, until there are no more.
    async fn remove(&self, statement: &'static str, age: Duration, at_once: u64) -> Result<u64, IndexError> {
        let mut all = 0;
        loop {
            let removed = sqlx::query(statement)
                .bind(age.as_secs_f64())
                .bind(at_once as i64)
                .execute(&self.pool)
                .await?
                .rows_affected();
            all += removed;
            if removed < at_once {
                return Ok(all);
            }
        }
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, IndexError> {
        const GET: &str = "SELECT key, facts FROM analysis.facts WHERE key = ANY($1)";
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let wanted: Vec<&[u8]> = keys.iter().map(Key::as_bytes).collect();
        let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(GET).bind(wanted).fetch_all(&self.pool).await?;
        // Two files may have the same content.
        let found: HashMap<Vec<u8>, Bytes> =
            rows.into_iter().map(|(key, facts)| (key, facts.into())).collect();
        Ok(keys
            .iter()
            .map(|key| found.get(key.as_bytes()).cloned())
            .collect())
    }

    async fn put(&self, mut entries: Vec<Entry>) -> Result<(), IndexError> {
        const PUT: &str =
            "INSERT INTO analysis.facts (key, facts) SELECT * FROM UNNEST($1::bytea[], $2::bytea[])
            ON CONFLICT (key) DO UPDATE SET facts = excluded.facts, kept_at = now()
            WHERE substring(analysis.facts.facts FOR 1) = '\\x00' RETURNING key, id";
        // Two analyses that keep the same content must not wait for each other.
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        let keys: Vec<&[u8]> = entries.iter().map(|entry| entry.key.as_bytes()).collect();
        let facts: Vec<&[u8]> = entries.iter().map(|entry| &*entry.bytes).collect();
        let mut transaction = self.pool.begin().await?;
        let new: Vec<(Vec<u8>, i64)> = sqlx::query_as(PUT)
            .bind(keys)
            .bind(facts)
            .fetch_all(&mut *transaction)
            .await?;
        let ids: HashMap<&[u8], i64> = new.iter().map(|(key, id)| (key.as_slice(), *id)).collect();
        let new: Vec<(i64, &Facts)> = entries
            .iter()
            .filter_map(|entry| Some((*ids.get(entry.key.as_bytes())?, &*entry.facts)))
            .collect();
        put_symbols(&mut transaction, &new).await?;
        put_imports(&mut transaction, &new).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn put_files(&self, run: i64, files: Vec<FileRow>) -> Result<(), IndexError> {
        const FILES: &str = "INSERT INTO analysis.files
            SELECT $1, u.number, u.path, f.id, u.language, u.bytes, u.lines, u.code_lines, u.complexity
            FROM UNNEST($2::int[], $3::text[], $4::bytea[], $5::text[], $6::bigint[], $7::int[], $8::int[], $9::int[])
                AS u (number, path, key, language, bytes, lines, code_lines, complexity)
            JOIN analysis.facts AS f USING (key)";
        let done = sqlx::query(FILES)
            .bind(run)
            .bind(files.iter().map(|file| int(file.number)).collect::<Vec<_>>())
            .bind(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>())
            .bind(files.iter().map(|file| file.key.as_bytes()).collect::<Vec<_>>())
            .bind(files.iter().map(|file| file.language.name()).collect::<Vec<_>>())
            .bind(files.iter().map(|file| file.bytes as i64).collect::<Vec<_>>())
            .bind(files.iter().map(|file| int(file.lines)).collect::<Vec<_>>())
            .bind(files.iter().map(|file| int(file.code_lines)).collect::<Vec<_>>())
            .bind(files.iter().map(|file| int(file.complexity)).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
        if done.rows_affected() == files.len() as u64 {
            Ok(())
        } else {
            Err(IndexError("facts have been removed during the analysis".into()))
        }
    }

    async fn put_dependencies(&self, run: i64, edges: Vec<(u32, u32)>) -> Result<(), IndexError> {
        const EDGES: &str = "INSERT INTO analysis.dependencies (run, from_file, to_file)
            SELECT $1, * FROM UNNEST($2::int[], $3::int[]) ON CONFLICT DO NOTHING";
        let (from, to): (Vec<i32>, Vec<i32>) =
            edges.into_iter().map(|(from, to)| (int(from), int(to))).unzip();
        sqlx::query(EDGES)
            .bind(run)
            .bind(from)
            .bind(to)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn end(&self, run: i64, report: &Report) -> Result<(), IndexError> {
        const END: &str = "UPDATE analysis.runs SET report = $2, finished_at = now() WHERE id = $1";
        // Those that never ended are left by analyses that died.
        const OLD: &str = "DELETE FROM analysis.runs AS old USING analysis.runs AS new
            WHERE new.id = $1 AND old.source = new.source AND old.revision = new.revision AND old.id < new.id
            AND (old.finished_at IS NOT NULL OR old.began_at < now() - interval '1 day')";
        let mut transaction = self.pool.begin().await?;
        sqlx::query(END)
            .bind(run)
            .bind(sqlx::types::Json(report))
            .execute(&mut *transaction)
            .await?;
        sqlx::query(OLD).bind(run).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

async fn put_symbols(
    transaction: &mut sqlx::PgTransaction<'_>,
    new: &[(i64, &Facts)],
) -> Result<(), IndexError> {
    const SYMBOLS: &str = "INSERT INTO analysis.symbols SELECT * FROM
        UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::int[], $6::int[], $7::int[])";
    let all = || {
        new.iter()
            .flat_map(|(id, facts)| facts.symbols.iter().map(move |symbol| (*id, symbol)))
    };
    sqlx::query(SYMBOLS)
        .bind(all().map(|(id, _)| id).collect::<Vec<_>>())
        .bind(all().map(|(_, symbol)| symbol.name.as_str()).collect::<Vec<_>>())
        .bind(all().map(|(_, symbol)| symbol.kind.name()).collect::<Vec<_>>())
        .bind(
            all()
                .map(|(_, symbol)| symbol.parent.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(all().map(|(_, symbol)| int(symbol.start)).collect::<Vec<_>>())
        .bind(all().map(|(_, symbol)| int(symbol.end)).collect::<Vec<_>>())
        .bind(
            all()
                .map(|(_, symbol)| int(symbol.complexity))
                .collect::<Vec<_>>(),
        )
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn put_imports(
    transaction: &mut sqlx::PgTransaction<'_>,
    new: &[(i64, &Facts)],
) -> Result<(), IndexError> {
    const IMPORTS: &str =
        "INSERT INTO analysis.imports SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::int[])";
    let all = || {
        new.iter()
            .flat_map(|(id, facts)| facts.imports.iter().map(move |import| (*id, import)))
    };
    sqlx::query(IMPORTS)
        .bind(all().map(|(id, _)| id).collect::<Vec<_>>())
        .bind(all().map(|(_, import)| import.path.as_str()).collect::<Vec<_>>())
        .bind(all().map(|(_, import)| int(import.line)).collect::<Vec<_>>())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

impl Index for PostgresIndex {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, IndexError>> {
        Box::pin(self.get(keys))
    }

    fn put_many(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(self.put(entries))
    }

    fn begin<'a>(
        &'a self,
        source: &'a str,
        revision: Option<&'a str>,
        commit: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<i64>, IndexError>> {
        const BEGIN: &str =
            "INSERT INTO analysis.runs (source, revision, commit_id) VALUES ($1, $2, $3) RETURNING id";
        Box::pin(async move {
            let query = sqlx::query_scalar(BEGIN)
                .bind(source)
                .bind(revision.unwrap_or_default())
                .bind(commit);
            Ok(Some(query.fetch_one(&self.pool).await?))
        })
    }

    fn files(&self, run: i64, files: Vec<FileRow>) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(self.put_files(run, files))
    }

    fn dependencies(&self, run: i64, edges: Vec<(u32, u32)>) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(self.put_dependencies(run, edges))
    }

    fn finish<'a>(&'a self, run: i64, report: &'a Report) -> BoxFuture<'a, Result<(), IndexError>> {
        Box::pin(self.end(run, report))
    }
}
