//! `weir limits`: what is allowed, what is left of it, and how it is changed while workers run. What is in force is what
//! workers say of it; how far it is used is read from Redis.

pub(crate) mod buckets;
mod change;
mod list;
pub(crate) mod models;
pub(crate) mod reading;
pub(crate) mod show;

use async_nats::jetstream;
use shared::limiter::live::Now;
use shared::subject::{LIMITS_BUCKET, Service};

use crate::args::Limits;
use crate::failure::Failure;

pub(crate) async fn run(limits: Limits) -> Result<(), Failure> {
    match limits {
        Limits::List(list) => list::run(list).await,
        Limits::Show(show) => show::run(show).await,
        Limits::Set(set) => Box::pin(change::set(set)).await,
        Limits::Shadow(shadow) => Box::pin(change::shadow(shadow)).await,
        Limits::Reset(reset) => Box::pin(change::reset(reset)).await,
    }
}

/// What the workers of a service say of its limits; `None` when none has ever said anything.
pub(crate) async fn now(js: &jetstream::Context, service: &Service) -> Result<Option<Now>, Failure> {
    let Ok(bucket) = js.get_key_value(LIMITS_BUCKET).await else {
        return Ok(None);
    };
    let said = bucket.get(service.limits_now()).await;
    let Some(said) = said.map_err(Failure::at(format!("reading the limits of {service}")))? else {
        return Ok(None);
    };
    serde_json::from_slice(&said)
        .map(Some)
        .map_err(Failure::at(format!(
            "what a worker says of the limits of {service} makes no sense"
        )))
}

/// For a service of which no worker has ever said what limits it has.
pub(crate) fn unsaid(service: &Service) -> String {
    format!("{service}: no worker has said yet what limits it has; has one ever run?")
}
