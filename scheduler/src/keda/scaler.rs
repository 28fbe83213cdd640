//! The calls that KEDA makes.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::proto::external_scaler_server::ExternalScaler;
use super::proto::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use super::trigger::Trigger;
use crate::board::Board;
use crate::figures::{Figure, Figures, Unknown};

/// Most open streams on all connections: one for each trigger `external-push` of the cluster, and as many again while
/// one KEDA takes over from another. Each costs some 6 KB.
const STREAMS: usize = 2_000;

/// Answers from the board.
#[derive(Debug)]
pub(super) struct Scaler {
    board: Arc<Board>,
    shutdown: CancellationToken,
    streams: Arc<Semaphore>,
}

impl Scaler {
    pub(super) fn new(board: Arc<Board>, shutdown: CancellationToken) -> Self {
        Self {
            board,
            shutdown,
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }

    fn figures(&self, trigger: &Trigger) -> Result<Figures, Status> {
        figures(&self.board, trigger)
    }
}

fn figures(board: &Board, trigger: &Trigger) -> Result<Figures, Status> {
    let service = &trigger.service;
    board
        .figures(service)
        .ok_or_else(|| Status::not_found(format!("the fleet has no service {service}")))?
        .map_err(|unknown| unavailable(&unknown))
}

fn unavailable(unknown: &Unknown) -> Status {
    Status::unavailable(unknown.to_string())
}

/// Whether anything is left to do. What does not wait yet, such as a retry, wakes nobody before its time.
fn active(board: &Board, trigger: &Trigger) -> Result<bool, Status> {
    Ok(figures(board, trigger)?.queue_depth > 0)
}

fn trigger(metadata: &HashMap<String, String>) -> Result<Trigger, Status> {
    Trigger::read(metadata)
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let trigger = trigger(&request.get_ref().scaler_metadata)?;
        let result = active(&self.board, &trigger)?;
        Ok(Response::new(IsActiveResponse { result }))
    }

    type StreamIsActiveStream = BoxStream<'static, Result<IsActiveResponse, Status>>;

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let trigger = trigger(&request.get_ref().scaler_metadata)?;
        let place = Arc::clone(&self.streams).try_acquire_owned();
        let full = |_| Status::resource_exhausted(format!("{STREAMS} streams are open"));
        let watch = Watch {
            trigger,
            _place: place.map_err(full)?,
            board: Arc::clone(&self.board),
            rounds: self.board.rounds(),
            told: None,
        };
        self.figures(&watch.trigger)?;
        let changes = stream::unfold(Some(watch), Watch::step);
        let changes = changes.take_until(self.shutdown.clone().cancelled_owned());
        Ok(Response::new(changes.boxed()))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        // A target is known even when the figure is not.
        let trigger = trigger(&request.get_ref().scaler_metadata)?;
        if self.board.known(&trigger.service).is_none() {
            return Err(Status::not_found(format!(
                "the fleet has no service {}",
                trigger.service
            )));
        }
        let spec = MetricSpec {
            metric_name: trigger.figure.name().to_owned(),
            // Zero would be no target at all.
            target_size: trigger.target.round().max(1.0) as i64,
            target_size_float: trigger.target,
        };
        Ok(Response::new(GetMetricSpecResponse {
            metric_specs: vec![spec],
        }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest {
            scaled_object_ref,
            metric_name,
        } = request.into_inner();
        let trigger = trigger(&scaled_object_ref.unwrap_or_default().scaler_metadata)?;
        if Figure::named(&metric_name) != Some(trigger.figure) {
            return Err(Status::not_found(format!(
                "the trigger asks for {}, the call for another metric",
                trigger.figure.name()
            )));
        }
        let milli = self
            .figures(&trigger)?
            .milli(trigger.figure)
            .map_err(|unknown| unavailable(&unknown))?;
        let value = MetricValue {
            metric_name,
            metric_value: i64::try_from(milli.div_ceil(1_000)).unwrap_or(i64::MAX),
            metric_value_float: milli as f64 / 1_000.0,
        };
        Ok(Response::new(GetMetricsResponse {
            metric_values: vec![value],
        }))
    }
}

/// One open stream.
struct Watch {
    trigger: Trigger,
    _place: OwnedSemaphorePermit,
    board: Arc<Board>,
    rounds: watch::Receiver<u64>,
    /// What was told last.
    told: Option<bool>,
}

impl Watch {
    /// The next change. What becomes unknown ends the stream with an error: KEDA then asks another replica.
    async fn step(watch: Option<Self>) -> Option<(Result<IsActiveResponse, Status>, Option<Self>)> {
        let mut watch = watch?;
        loop {
            watch.rounds.mark_unchanged();
            match active(&watch.board, &watch.trigger) {
                Err(unknown) => return Some((Err(unknown), None)),
                Ok(result) if watch.told != Some(result) => {
                    watch.told = Some(result);
                    return Some((Ok(IsActiveResponse { result }), Some(watch)));
                }
                Ok(_) => watch.rounds.changed().await.ok()?,
            }
        }
    }
}
