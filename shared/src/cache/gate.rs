//! How long a level is waited for, and when it is left alone: one that does not answer costs a bounded time, however
//! many ask.

use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// Failures in a row after which a level is left alone.
const FAILURES: u32 = 3;
/// For how long. Then one question tries it.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a level gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Away {
    /// It failed, or is left alone after failures.
    Away,
    /// It did not answer in time.
    Slow,
}

/// Stands before a level.
#[derive(Debug)]
pub(super) struct Gate {
    /// Longest that one question waits.
    patience: Duration,
    start: Instant,
    failures: AtomicU32,
    /// Until when nobody is let through, in milliseconds since `start`.
    closed_until: AtomicU64,
}

impl Gate {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            start: Instant::now(),
            failures: AtomicU32::new(0),
            closed_until: AtomicU64::new(0),
        }
    }

    /// Asks a level, if it is not left alone.
    pub(super) async fn ask<T, E: std::fmt::Display>(
        &self,
        level: &'static str,
        question: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Away> {
        let closed = self.closed_until.load(Ordering::Relaxed);
        let now = self.start.elapsed().as_millis() as u64;
        if now < closed {
            return Err(Away::Away);
        }
        // Of all who come after a pause one goes first.
        if self.failures.load(Ordering::Relaxed) >= FAILURES {
            let until = now + (PAUSE + self.patience).as_millis() as u64;
            let first =
                self.closed_until
                    .compare_exchange(closed, until, Ordering::Relaxed, Ordering::Relaxed);
            if first.is_err() {
                return Err(Away::Away);
            }
        }
        match timeout(self.patience, question).await {
            Ok(Ok(answer)) => {
                if self.failures.swap(0, Ordering::Relaxed) >= FAILURES {
                    tracing::info!(level, "a level of the cache answers again");
                }
                self.closed_until.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.failed(level, &error);
                Err(Away::Away)
            }
            Err(_) => {
                self.failed(level, &"no answer in time");
                Err(Away::Slow)
            }
        }
    }

    fn failed(&self, level: &'static str, error: &dyn std::fmt::Display) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= FAILURES {
            let until = self.start.elapsed() + PAUSE;
            self.closed_until
                .store(until.as_millis() as u64, Ordering::Relaxed);
        }
        if failures == FAILURES {
            tracing::warn!(level, %error, "a level of the cache does not answer: all is a miss there");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_level_that_fails_is_left_alone_and_then_tried_by_one() {
        let gate = Gate::new(Duration::from_millis(100));
        let (good, bad) = (|| ready(Ok::<_, &str>(1)), || ready(Err::<u8, _>("broken")));
        for _ in 0..FAILURES {
            assert_eq!(gate.ask("l", bad()).await, Err(Away::Away));
        }
        // Nobody asks.
        assert_eq!(gate.ask("l", good()).await, Err(Away::Away));
        tokio::time::advance(PAUSE).await;
        // One does, and it hangs: all others go on at once.
        let (slow, at_once) = tokio::join!(gate.ask("l", pending::<Result<u8, &str>>()), async {
            let before = Instant::now();
            assert_eq!(gate.ask("l", good()).await, Err(Away::Away));
            before.elapsed()
        });
        assert_eq!((slow, at_once), (Err(Away::Slow), Duration::ZERO));
        assert_eq!(gate.ask("l", good()).await, Err(Away::Away));
        tokio::time::advance(PAUSE).await;
        assert_eq!(gate.ask("l", good()).await, Ok(1));
        assert_eq!(gate.ask("l", bad()).await, Err(Away::Away));
        assert_eq!(gate.ask("l", good()).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_the_try_leaves_it_to_the_next() {
        let gate = Gate::new(Duration::from_millis(100));
        for _ in 0..FAILURES {
            let _ = gate.ask("l", ready(Err::<u8, _>("broken"))).await;
        }
        tokio::time::advance(PAUSE).await;
        let dropped = gate.ask("l", pending::<Result<u8, &str>>());
        assert!(timeout(Duration::from_millis(1), dropped).await.is_err());
        tokio::time::advance(PAUSE * 2).await;
        assert_eq!(gate.ask("l", ready(Ok::<_, &str>(1))).await, Ok(1));
    }
}
