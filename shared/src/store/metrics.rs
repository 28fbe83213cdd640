//! Metrics of pools and of the replica.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sqlx::PgPool;

/// Connections of a pool, by pool and whether they are `idle` or `used`.
pub const CONNECTIONS: &str = "weir_postgres_connections";
/// Most connections of a pool.
pub const LIMIT: &str = "weir_postgres_connections_limit";
/// Whether a pool gave a connection when it was looked at last: 1 or 0.
pub const HEALTHY: &str = "weir_postgres_healthy";
/// Looks at a pool that got no connection.
pub const FAILURES: &str = "weir_postgres_health_failures";
/// Time until a pool gave a connection and an answer.
pub const ACQUIRE: &str = "weir_postgres_health_seconds";
/// Seconds that the replica is behind, as far as that is known.
pub const LAG: &str = "weir_postgres_replica_lag_seconds";
/// Whether questions go to the replica: 1 or 0.
pub const IN_USE: &str = "weir_postgres_replica_in_use";
/// Questions by where they went: `replica` or `primary`.
pub const READS: &str = "weir_postgres_reads";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    pool: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FromLabel {
    from: &'static str,
}

/// Metrics of all pools of a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    healthy: Family<PoolLabel, Gauge>,
    failures: Family<PoolLabel, Counter>,
    acquire: Family<PoolLabel, Histogram, fn() -> Histogram>,
    /// See [`LAG`].
    pub(super) lag: Gauge<f64, AtomicU64>,
    /// See [`IN_USE`].
    pub(super) in_use: Gauge,
    reads: Family<FromLabel, Counter>,
    pools: Pools,
}

impl Default for Metrics {
    fn default() -> Self {
        // 0.1 ms to 6.5 s.
        let histogram = || Histogram::new(exponential_buckets(1e-4, 2.0, 17));
        Self {
            healthy: Family::default(),
            failures: Family::default(),
            acquire: Family::new_with_constructor(histogram),
            lag: Gauge::default(),
            in_use: Gauge::default(),
            reads: Family::default(),
            pools: Pools::default(),
        }
    }
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            HEALTHY,
            "Whether a pool gave a connection when it was looked at last",
            metrics.healthy.clone(),
        );
        registry.register(
            FAILURES,
            "Looks at a pool that got no connection",
            metrics.failures.clone(),
        );
        registry.register(
            ACQUIRE,
            "Time until a pool gave a connection and an answer",
            metrics.acquire.clone(),
        );
        registry.register(LAG, "Seconds that the replica is behind", metrics.lag.clone());
        registry.register(
            IN_USE,
            "Whether questions go to the replica",
            metrics.in_use.clone(),
        );
        registry.register(READS, "Questions by where they went", metrics.reads.clone());
        registry.register_collector(Box::new(metrics.pools.clone()));
        metrics
    }

    /// Metrics of one pool, its connections among them as they are when somebody asks.
    pub fn of(&self, name: &'static str, pool: &PgPool) -> PoolMetrics {
        self.pools.lock().push((name, pool.clone()));
        PoolMetrics {
            name,
            all: Arc::new(self.clone()),
        }
    }

    pub(super) fn read(&self, from: &'static str) {
        self.reads.get_or_create(&FromLabel { from }).inc();
    }
}

/// Metrics of one pool.
#[derive(Debug, Clone)]
pub struct PoolMetrics {
    name: &'static str,
    all: Arc<Metrics>,
}

impl PoolMetrics {
    /// The pool's name: `write`, `read` or `replica`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn looked(&self, looked: &Result<Duration, String>) {
        let label = PoolLabel { pool: self.name };
        self.all
            .healthy
            .get_or_create(&label)
            .set(i64::from(looked.is_ok()));
        match looked {
            Ok(took) => self.all.acquire.get_or_create(&label).observe(took.as_secs_f64()),
            Err(_) => drop(self.all.failures.get_or_create(&label).inc()),
        }
    }
}

/// The pools of a process.
#[derive(Clone, Default)]
struct Pools(Arc<Mutex<Vec<(&'static str, PgPool)>>>);

impl Pools {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(&'static str, PgPool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.lock().iter().map(|(name, _)| name))
            .finish()
    }
}

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let pools = self.lock();
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut all = encoder.encode_descriptor(CONNECTIONS, "Connections of a pool", None, kind)?;
        for (name, pool) in pools.iter() {
            let idle = pool.num_idle() as i64;
            for (state, count) in [("idle", idle), ("used", i64::from(pool.size()) - idle)] {
                let label = StateLabel { pool: name, state };
                ConstGauge::new(count.max(0)).encode(all.encode_family(&label)?)?;
            }
        }
        let mut all = encoder.encode_descriptor(LIMIT, "Most connections of a pool", None, kind)?;
        for (name, pool) in pools.iter() {
            let most = ConstGauge::new(i64::from(pool.options().get_max_connections()));
            most.encode(all.encode_family(&PoolLabel { pool: name })?)?;
        }
        Ok(())
    }
}
