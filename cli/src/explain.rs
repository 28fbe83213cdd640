//! `weir explain`: where an event is or what a service waits for, why, and until when. Pure: [`plan`].

mod budgets;
mod event;
mod find;
mod found;
mod kin;
mod limits;
mod models;
mod page;
mod plan;
mod service;

use shared::event::EventId;
use shared::subject::Service;

use crate::args::Explain;
use crate::failure::Failure;
use crate::fleet;
use crate::terminal::clean;

pub(crate) async fn run(explain: Explain) -> Result<(), Failure> {
    let place = &explain.buckets;
    let reached = fleet::reach_all(
        &place.fleet,
        explain.postgres_url.as_deref(),
        place.redis_url.as_deref(),
    )
    .await?;
    if explain.service.is_none()
        && let Ok(service) = Service::new(explain.what.as_str())
        && reached.js.get_stream(service.stream()).await.is_ok()
    {
        return service::run(&reached, &service, explain.json).await;
    }
    let id = EventId::new(explain.what.as_str()).map_err(|error| {
        Failure::Usage(format!(
            "SERVICE|EVENT-ID {}: is no service of the fleet, and an event's id {error}",
            clean(&format!("{:?}", explain.what), 300)
        ))
    })?;
    Box::pin(event::run(&reached, &id, explain.service.as_ref(), explain.json)).await
}
