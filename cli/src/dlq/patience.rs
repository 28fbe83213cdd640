//! Going on trying while the server is away or a stream is full, for a bounded time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::terminal;

/// Pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a try came to that did not succeed.
pub(super) enum Refused {
    /// Trying again makes sense.
    Later(String),
    /// It does not, for this letter.
    Never(String),
}

/// Why something was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// This letter cannot be dealt with; others can.
    Letter(String),
    /// It was told to stop.
    Stopped,
    /// Nothing has succeeded for as long as it was to wait.
    GaveUp(String),
}

/// Shared by all that is in flight: while one of them succeeds, the others go on trying.
#[derive(Clone)]
pub(super) struct Patience {
    span: Duration,
    failing: Arc<Mutex<Option<Instant>>>,
    stop: CancellationToken,
    bar: ProgressBar,
}

impl Patience {
    pub(super) fn new(span: Duration, stop: CancellationToken, bar: ProgressBar) -> Self {
        Self {
            span,
            failing: Arc::new(Mutex::new(None)),
            stop,
            bar,
        }
    }

    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Does something until it succeeds, cannot, or is not to be waited for any longer.
    pub(super) async fn insist<T, F>(&self, mut once: impl FnMut() -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, Refused>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match once().await {
                Ok(done) => {
                    self.succeeded();
                    return Ok(done);
                }
                Err(Refused::Never(why)) => return Err(Halt::Letter(why)),
                Err(Refused::Later(why)) => self.wait(why, &mut pause).await?,
            }
        }
    }

    fn succeeded(&self) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits before another try, if there is to be one.
    async fn wait(&self, why: String, pause: &mut Duration) -> Result<(), Halt> {
        let now = Instant::now();
        let since = {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            if failing.is_none() && !self.stop.is_cancelled() {
                self.bar
                    .suspend(|| terminal::note(format_args!("{why}: waiting for up to {:?}", self.span)));
            }
            *failing.get_or_insert(now)
        };
        let left = self.span.saturating_sub(now.saturating_duration_since(since));
        if left.is_zero() {
            return Err(Halt::GaveUp(why));
        }
        let waited = self
            .stop
            .run_until_cancelled(tokio::time::sleep((*pause).min(left)));
        waited.await.ok_or(Halt::Stopped)?;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_tries_until_it_succeeds_cannot_or_has_waited_long_enough() {
        let stop = CancellationToken::new();
        let patience = |span| Patience::new(Duration::from_millis(span), stop.clone(), ProgressBar::hidden());
        let mut tries = 0;
        let long = patience(60_000);
        let done = long.insist(|| {
            tries += 1;
            std::future::ready(if tries < 3 {
                Err(Refused::Later("full".into()))
            } else {
                Ok(tries)
            })
        });
        assert_eq!(done.await, Ok(3));
        let later = || std::future::ready(Err::<(), _>(Refused::Later("full".into())));
        assert_eq!(patience(1).insist(later).await, Err(Halt::GaveUp("full".into())));
        let never = || std::future::ready(Err::<(), _>(Refused::Never("too large".into())));
        assert_eq!(
            patience(1).insist(never).await,
            Err(Halt::Letter("too large".into()))
        );
        stop.cancel();
        assert_eq!(patience(60_000).insist(later).await, Err(Halt::Stopped));
    }
}
