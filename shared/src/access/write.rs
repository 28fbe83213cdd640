//! Writing what was noted: a row a service every few seconds. Never in the way of anybody: what cannot be written for a while is
//! dropped and counted.

mod row;
mod table;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::PgPool;
use tokio::time::Instant;

pub use table::{MOST_KEYS, forget_old};

use super::metrics::Why;
use super::{Digest, Notes, What};
use row::Row;
use table::{Written, trim, write};

/// How often should be written.
pub const EVERY: Duration = Duration::from_secs(5);
/// Longest that writing a row may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long a row is tried, and how many bytes of rows may wait.
const TRIED_FOR: Duration = Duration::from_secs(300);
const WAITING: usize = 8 << 20;
/// A key that was told is told again after one to two of these.
const GENERATION: Duration = Duration::from_secs(12 * 3_600);
/// After so many new keys of its own a worker looks whether there are too many in all.
const TRIM_AFTER: usize = 10_000;

/// Writes what a process noted.
#[derive(Debug)]
pub struct Writer {
    pool: PgPool,
    notes: Notes,
    worker: String,
    waiting: VecDeque<Row>,
    aged: Instant,
    away: bool,
    new_keys: usize,
}

impl Writer {
    /// Writes what is noted there, as this worker's.
    pub fn new(pool: PgPool, notes: Notes, worker: &str) -> Self {
        Self {
            pool,
            notes,
            worker: worker.to_owned(),
            waiting: VecDeque::new(),
            aged: Instant::now(),
            away: false,
            new_keys: 0,
        }
    }

    /// Writes all that was noted since the last time, and what could not be written before. Takes the time of one row that
    /// Postgres does not answer, 10 s, at most, beside those that it does.
    pub async fn flush(&mut self) {
        if self.aged.elapsed() >= GENERATION {
            self.aged = Instant::now();
            self.notes.age();
        }
        self.gather(now_ms());
        while let Some(row) = self.waiting.front_mut() {
            let start = Instant::now();
            let written = tokio::time::timeout(PATIENCE, write(&self.pool, &self.worker, row)).await;
            self.notes.took(start.elapsed().as_secs_f64());
            row.tried = true;
            let error = match written {
                Ok(Ok(written)) => {
                    if self.away {
                        tracing::info!("the access log is written again");
                    }
                    self.away = false;
                    self.done(written).await;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            if !self.away {
                tracing::warn!(
                    error,
                    "the access log is not written: rows wait for {} s",
                    TRIED_FOR.as_secs()
                );
            }
            self.away = true;
            break;
        }
        self.drop_oldest();
    }

    /// Makes rows of what is noted.
    fn gather(&mut self, now_ms: u64) {
        let share = self.notes.share();
        for (service, accesses, keys) in self.notes.take() {
            let told = accesses.len();
            let rows = Row::pack(service, share, accesses, keys, now_ms);
            let kept: usize = rows.iter().map(|row| row.accesses).sum();
            if let Some(counts) = self.notes.counts(service) {
                counts.dropped(Why::Time, (told - kept) as u64);
            }
            self.waiting.extend(rows);
        }
    }

    async fn done(&mut self, written: Written) {
        let Some(row) = self.waiting.pop_front() else {
            return;
        };
        let Some(counts) = self.notes.counts(&row.service) else {
            return;
        };
        match written {
            Written::Yes => {
                counts.rows.inc();
                counts.bytes.inc_by(row.packed.len() as u64);
                self.new_keys += row.told.len();
                if self.new_keys >= TRIM_AFTER {
                    self.new_keys = 0;
                    if let Err(error) = trim(&self.pool, &row.service).await {
                        tracing::warn!(%error, "what to fetch for keys was not trimmed");
                    }
                }
            }
            Written::Before => {}
            Written::Absurd => {
                tracing::warn!("a row of the access log is dropped: its times are not the database's");
                counts.dropped(Why::Time, row.accesses as u64);
                self.notes.forget(&row.service, ids(&row.told));
            }
            Written::Refused(error) => {
                tracing::warn!(error, "Postgres refuses a row of the access log: it is dropped");
                counts.dropped(Why::Refused, row.accesses as u64);
            }
        }
    }

    /// Drops rows that have waited for too long, and those that are too many.
    fn drop_oldest(&mut self) {
        let mut bytes: usize = self.waiting.iter().map(Row::bytes).sum();
        while let Some(row) = self.waiting.front()
            && (bytes > WAITING || row.since.elapsed() > TRIED_FOR)
        {
            bytes -= row.bytes();
            if let Some(counts) = self.notes.counts(&row.service) {
                counts.dropped(Why::Away, row.accesses as u64);
            }
            self.notes.forget(&row.service, ids(&row.told));
            self.waiting.pop_front();
        }
    }
}

fn ids(told: &[(Digest, What)]) -> impl Iterator<Item = u64> {
    told.iter().map(|(digest, _)| digest.id())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
