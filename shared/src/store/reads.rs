//! Where people's questions go: to the replica while it keeps up, else to the primary.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;

use super::lag::{Replayed, Trail};
use super::metrics::Metrics;
use super::pool::{self, ACQUIRE_WITHIN};
use super::settings::{MOST, Settings, Size};

/// How often within its bound the lag is measured.
const LOOKS: u32 = 4;
/// Longest pause between two measurements.
const LONGEST_PAUSE: Duration = Duration::from_millis(2_500);
/// Most connections to the primary where there is a replica: questions go there only while it is out.
const PRIMARY: u32 = 10;

/// How a replica stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It has not been looked at yet.
    New,
    /// It is behind by this at most, which is within the bound.
    Current(Duration),
    /// It is behind by more than the bound; by how much, if that is known.
    Behind(Option<Duration>),
    /// It is none: it takes writes, or follows another server.
    NoReplica(&'static str),
    /// It or the primary did not answer.
    Gone(String),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("not looked at yet"),
            Self::Current(lag) => write!(f, "{} ms behind", lag.as_millis()),
            Self::Behind(Some(lag)) => write!(f, "{} s behind", lag.as_secs()),
            Self::Behind(None) => f.write_str("behind, nobody knows how far"),
            Self::NoReplica(what) => f.write_str(what),
            Self::Gone(why) => write!(f, "gone: {why}"),
        }
    }
}

/// Pools to read over. Clones share them.
#[derive(Debug, Clone)]
pub struct Reads(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    primary: PgPool,
    replica: Option<Replica>,
    bound: Duration,
    patience: Duration,
    metrics: Metrics,
}

#[derive(Debug)]
struct Replica {
    pool: PgPool,
    state: Mutex<(Trail, Standing)>,
}

impl Replica {
    fn standing(&self) -> Standing {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .clone()
    }
}

impl Reads {
    /// Pools as the settings say; waits for no server. With a replica, its pool has all but [`PRIMARY`] of the connections.
    ///
    /// # Errors
    /// One of the URLs is none.
    pub fn open(
        url: &str,
        settings: &Settings,
        size: Size,
        application: &str,
        metrics: Metrics,
    ) -> Result<Self, sqlx::Error> {
        let Some(read_url) = &settings.read_url else {
            let primary = pool::read(url, settings, size, settings.acquire_timeout, application)?;
            return Ok(Self::of(primary, None, settings, metrics));
        };
        let most = PRIMARY.min(size.most).min(MOST / 2);
        let spare = Size { least: 0, most };
        let size = Size {
            least: size.least.min(size.most.min(MOST - most)),
            most: size.most.min(MOST - most),
        };
        let primary = pool::read(url, settings, spare, settings.acquire_timeout, application)?;
        // Whoever gets no connection there gets one at the primary.
        let acquire = settings.acquire_timeout.min(ACQUIRE_WITHIN);
        let pool = pool::read(read_url, settings, size, acquire, application)?;
        let replica = Replica {
            pool,
            state: Mutex::new((Trail::default(), Standing::New)),
        };
        Ok(Self::of(primary, Some(replica), settings, metrics))
    }

    fn of(primary: PgPool, replica: Option<Replica>, settings: &Settings, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            primary,
            replica,
            bound: settings.lag,
            patience: settings.read_timeout + Duration::from_secs(1),
            metrics,
        }))
    }

    /// The pool to the primary.
    pub fn primary(&self) -> &PgPool {
        &self.0.primary
    }

    /// The pool to the replica, if there is one.
    pub fn replica(&self) -> Option<&PgPool> {
        self.0.replica.as_ref().map(|replica| &replica.pool)
    }

    /// How the replica stood when it was looked at last; `None` where there is none.
    pub fn standing(&self) -> Option<Standing> {
        self.0.replica.as_ref().map(Replica::standing)
    }

    /// Asks the replica if it keeps up and answers, else the primary. A question that the replica does not answer goes to
    /// the primary, and so do all others until the next look.
    ///
    /// # Errors
    /// What the primary says.
    pub async fn ask<T, Fut>(&self, question: impl Fn(PgPool) -> Fut) -> Result<T, sqlx::Error>
    where
        Fut: Future<Output = Result<T, sqlx::Error>>,
    {
        if let Some(replica) = &self.0.replica
            && matches!(replica.standing(), Standing::Current(_))
        {
            match self.bounded(question(replica.pool.clone())).await {
                Err(error) if is_about_the_server(&error) => {
                    self.stands(replica, &Standing::Gone(error.to_string()));
                }
                answer => {
                    self.0.metrics.read("replica");
                    return answer;
                }
            }
        }
        self.0.metrics.read("primary");
        self.bounded(question(self.0.primary.clone())).await
    }

    /// The server keeps the time as long as it is there.
    async fn bounded<T>(
        &self,
        question: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let late = |_| {
            let kind = std::io::ErrorKind::TimedOut;
            sqlx::Error::Io(std::io::Error::new(kind, "no answer in time"))
        };
        tokio::time::timeout(self.0.patience, question)
            .await
            .map_err(late)?
    }

    /// Looks how far the replica is behind. How it stands now.
    pub async fn look(&self) -> Option<Standing> {
        let replica = self.0.replica.as_ref()?;
        let standing = match tokio::time::timeout(ACQUIRE_WITHIN, self.measure(replica)).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => Standing::Gone(error.to_string()),
            Err(_) => Standing::Gone(format!("no answer within {} s", ACQUIRE_WITHIN.as_secs())),
        };
        self.stands(replica, &standing);
        Some(standing)
    }

    async fn measure(&self, replica: &Replica) -> Result<Standing, sqlx::Error> {
        // Reading where another kind of server writes, or replays, is an error there.
        const PRIMARY: &str = "SELECT (SELECT system_identifier FROM pg_control_system()),
            CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_lsn() - '0/0')::bigint END";
        const REPLICA: &str = "SELECT (SELECT system_identifier FROM pg_control_system()),
            CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0')::bigint END,
            extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8";
        // The primary first: what it writes after that is no lag.
        let asked = Instant::now();
        let (of, end): (i64, Option<i64>) = sqlx::query_as(PRIMARY).fetch_one(&self.0.primary).await?;
        let (is, to, since): (i64, Option<i64>, Option<f64>) =
            sqlx::query_as(REPLICA).fetch_one(&replica.pool).await?;
        let (Some(end), Some(to)) = (end, to) else {
            return Ok(Standing::NoReplica(if end.is_none() {
                "WEIR_POSTGRES_URL is no primary"
            } else {
                "no replica: it takes writes of its own"
            }));
        };
        if of != is {
            return Ok(Standing::NoReplica("a replica of another server"));
        }
        let since_commit = since.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        let replayed = Replayed {
            to: to.max(0) as u64,
            since_commit,
        };
        let mut state = replica.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.mark(asked, end.max(0) as u64);
        Ok(match state.0.lag(Instant::now(), replayed) {
            Some(lag) if lag <= self.0.bound => Standing::Current(lag),
            lag => Standing::Behind(lag),
        })
    }

    fn stands(&self, replica: &Replica, now: &Standing) {
        let before = {
            let mut state = replica.state.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut state.1, now.clone())
        };
        let in_use = |standing: &Standing| matches!(standing, Standing::Current(_));
        self.0.metrics.in_use.set(i64::from(in_use(now)));
        if let Standing::Current(lag) | Standing::Behind(Some(lag)) = now {
            self.0.metrics.lag.set(lag.as_secs_f64());
        }
        match (in_use(&before), in_use(now)) {
            (false, true) => tracing::info!(replica = %now, "questions go to the replica"),
            (true, false) => tracing::warn!(replica = %now, "questions go to the primary"),
            (false, false) if before == Standing::New => {
                tracing::warn!(replica = %now, "questions go to the primary");
            }
            _ => {}
        }
    }

    /// Looks at the replica four times within its bound, twice as long after each look that failed.
    ///
    /// # Errors
    /// None: it goes on until it is dropped. Ends at once where there is no replica.
    pub async fn watch(self) -> Result<(), Infallible> {
        let every = (self.0.bound / LOOKS).min(LONGEST_PAUSE);
        let mut failures = 0;
        while let Some(standing) = self.look().await {
            failures = match standing {
                Standing::Gone(_) => failures + 1,
                _ => 0,
            };
            // A minute at most: what has come back is to be of use soon.
            tokio::time::sleep(pool::pause(every, failures.min(5))).await;
        }
        Ok(())
    }
}

/// Whether another server may answer what this one did not: it is away or shutting down, or has no connection to give, or
/// what it replays was in the way of the question (SQLSTATE 40001).
fn is_about_the_server(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code == "40001" || code.starts_with("57P") || code.starts_with("53")),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed => true,
        _ => false,
    }
}
