//! What a service's pool is put together from.

use std::sync::Arc;

use async_nats::jetstream;
use redis::aio::ConnectionManager;
use shared::access::Notes;
use shared::cache::Levels;
use shared::limiter::Limiter;
use sqlx::PgPool;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Pool;
use crate::MakeHandler;
use crate::config::{Config, ServiceConfig};
use crate::effect;
use crate::follow::InForce;
use crate::group::Groups;
use crate::handler::{self, bucket_tag};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::outbound::fleet::Fleet;
use crate::outbound::upstreams::{self, Upstreams};
use crate::quota::{self, Quota};
use crate::response::Responses;
use crate::room::Room;
use crate::store::{Owner, Store};

/// What a pool is put together from.
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) service: &'a ServiceConfig,
    pub(crate) client: &'a async_nats::Client,
    pub(crate) js: &'a jetstream::Context,
    pub(crate) connects: &'a watch::Receiver<u64>,
    pub(crate) limiter: &'a Limiter,
    pub(crate) redis: &'a ConnectionManager,
    pub(crate) database: Option<&'a PgPool>,
    pub(crate) metrics: &'a Metrics,
    pub(crate) background: &'a TaskTracker,
    pub(crate) events: &'a TaskTracker,
    pub(crate) hand_back: &'a CancellationToken,
    pub(crate) room: &'a Room,
    pub(crate) in_force: &'a InForce,
    pub(crate) levels: Option<&'a Levels>,
    pub(crate) notes: &'a Notes,
}

impl Parts<'_> {
    /// The pool, with a handler made by `make`.
    pub(crate) fn assemble(self, make: &MakeHandler) -> Result<Pool, String> {
        let service = &self.service.service;
        let apart = self.service.kind.charged_apart;
        let limits = Arc::new(Limits::new(
            bucket_tag(self.service),
            apart,
            self.service.limits.clone(),
        ));
        let quota = quota::Parts {
            limiter: self.limiter.clone(),
            limits: Arc::clone(&limits),
            provider: self.service.provider,
            away: self.service.away,
            ahead: self.config.ahead,
            metrics: self.metrics.quota(service.as_str()),
        };
        let owner = Owner {
            service: service.clone(),
            worker: self.config.name.as_str().into(),
            inbox: self.config.inbox,
            longest_call: effect::longest_call(self.service.timeout),
        };
        let streams = &self.config.fleet.streams;
        let upstreams = upstreams::Parts {
            service,
            urls: &self.service.urls,
            looked_at: self.service.own.calls_its_url(),
            rule: self.service.breaker,
            timeout: self.service.timeout,
            worker: &self.config.name,
            metrics: self.metrics,
            fleet: Fleet::new(self.client, self.js, streams, service),
        };
        let store = self
            .database
            .map(|db| Store::start(self.background, db.clone(), owner, self.metrics.store.clone()));
        let parts = handler::Parts {
            outbound: Outbound::new(
                self.service.concurrency,
                self.service.kind.own_endpoint,
                self.config.egress(self.service),
            )?,
            redis: self.redis.clone(),
            limiter: self.limiter.clone(),
            metrics: self.metrics.clone(),
            database: self.database.cloned(),
            dead_max_age: streams.dead_max_age,
            background: self.background.clone(),
        };
        let handler = make(self.service, parts)?;
        let responses = Responses::new(self.levels, self.notes, self.service);
        Ok(Pool {
            groups: Groups::new(&*handler, self.metrics.groups(service.as_str())),
            upstreams: Upstreams::start(self.background, upstreams)?,
            responses: responses.map_err(|error| error.to_string())?,
            handler,
            quota: Quota::start(self.background, quota),
            limits,
            rules: self.in_force.clone(),
            store,
            metrics: self.metrics.service(service.as_str()),
            stream: service.stream(),
            config: self.service.clone(),
            streams: self.config.fleet.streams.clone(),
            worker: self.config.name.as_str().into(),
            batch: self.config.batch,
            client: Arc::new(self.client.clone()),
            js: self.js.clone(),
            connects: self.connects.clone(),
            permits: Arc::new(Semaphore::new(self.service.concurrency)),
            tasks: self.events.clone(),
            hand_back: self.hand_back.clone(),
            room: self.room.clone(),
        })
    }
}
