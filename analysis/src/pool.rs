//! Threads for what would hold up the async ones: so many that parse, so many that load, so many that fetch.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::error::AnalysisError;

/// Fetches at once: they wait more than they work.
const FETCHES: usize = 4;

/// Places among those that work at once.
#[derive(Debug)]
pub(crate) struct Pool {
    parse: Arc<Semaphore>,
    load: Arc<Semaphore>,
    fetch: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            parse: Arc::new(Semaphore::new(threads.max(1))),
            load: Arc::new(Semaphore::new(threads.max(1))),
            fetch: Arc::new(Semaphore::new(FETCHES)),
        }
    }

    /// Runs work that needs a processor.
    pub(crate) async fn parse<T: Send + 'static>(
        &self,
        cancel: &CancellationToken,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AnalysisError> {
        run(&self.parse, cancel, work).await
    }

    /// Runs work that makes ready what is parsed next.
    pub(crate) async fn load<T: Send + 'static>(
        &self,
        cancel: &CancellationToken,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AnalysisError> {
        run(&self.load, cancel, work).await
    }

    /// Runs work that waits for a server.
    pub(crate) async fn fetch<T: Send + 'static>(
        &self,
        cancel: &CancellationToken,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AnalysisError> {
        run(&self.fetch, cancel, work).await
    }
}

async fn run<T: Send + 'static>(
    places: &Arc<Semaphore>,
    cancel: &CancellationToken,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AnalysisError> {
    let place = tokio::select! {
        place = places.clone().acquire_owned() => place.map_err(|_| AnalysisError::Cancelled)?,
        () = cancel.cancelled() => return Err(AnalysisError::Cancelled),
    };
    tokio::task::spawn_blocking(move || {
        // Held by the work itself: if nobody waits for it any more, it still takes its place until it ends.
        let _place = place;
        work()
    })
    .await
    .map_err(|e| AnalysisError::Internal(e.to_string()))
}
