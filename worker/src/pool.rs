//! One service's pool: what its events in flight share.

mod parts;

use std::sync::Arc;

use async_nats::jetstream;
use shared::config::fleet::Streams;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ServiceConfig;
use crate::follow::InForce;
use crate::group::Groups;
use crate::handler::Handler;
use crate::limits::Limits;
use crate::metrics::ServiceMetrics;
use crate::outbound::upstreams::Upstreams;
use crate::quota::Quota;
use crate::response::Responses;
use crate::room::Room;
use crate::store::Store;
pub(crate) use parts::Parts;

/// What the events of one service share while they are processed.
pub struct Pool {
    /// The service's settings.
    pub config: ServiceConfig,
    /// How the streams are kept.
    pub streams: Streams,
    /// Who we are, for the audit log.
    pub worker: Arc<str>,
    /// The name of the service's stream.
    pub stream: String,
    /// Most messages asked for at once.
    pub batch: usize,
    /// NATS.
    pub client: Arc<async_nats::Client>,
    /// JetStream.
    pub js: jetstream::Context,
    /// How often NATS was connected to.
    pub connects: watch::Receiver<u64>,
    /// A place for each event in flight.
    pub permits: Arc<Semaphore>,
    /// Room for large events, which all services of this worker share.
    pub room: Room,
    /// The service's limits by name.
    pub limits: Arc<Limits>,
    /// Tickets and turns under them.
    pub quota: Quota,
    /// Events that go together into one call.
    pub groups: Groups,
    /// Where its calls go.
    pub upstreams: Upstreams,
    /// What its events have read.
    pub responses: Responses,
    /// The code that does the work.
    pub handler: Arc<dyn Handler>,
    /// The rules in force.
    pub rules: InForce,
    /// Where results are kept; `None` where none are.
    pub store: Option<Store>,
    /// The service's metrics.
    pub metrics: ServiceMetrics,
    /// Events in flight.
    pub tasks: TaskTracker,
    /// Cancelled when the time to finish is up: events in flight are handed back.
    pub hand_back: CancellationToken,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.config.service)
    }
}
