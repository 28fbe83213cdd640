//! How a service starts, what its background tasks do when they fail, and how it stops: one order, one deadline.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{EXIT_CONFIG, Environment, Fleet, Reader};
use crate::telemetry;

/// Longest time that sending the last traces may take after the drain.
pub const FLUSH: Duration = Duration::from_secs(3);

/// Reads a service's settings, or tells on standard error what is wrong with them and gives exit code 64. With
/// `print` it shows the settings in effect on standard output and gives exit code 0.
pub fn configure<C>(
    environment: &dyn Environment,
    own: &[&str],
    print: bool,
    read: impl FnOnce(&mut Reader<'_>) -> C,
) -> Result<C, ExitCode> {
    use std::io::Write;
    let mut reader = Reader::new(environment);
    let config = read(&mut reader);
    let own: Vec<&str> = own.iter().copied().chain(Fleet::OWN).collect();
    match reader.finish(&own, config) {
        Ok((_, shown)) if print => {
            let _ = write!(std::io::stdout(), "{shown}");
            Err(ExitCode::SUCCESS)
        }
        Ok((config, _)) => Ok(config),
        Err(problems) => {
            let _ = writeln!(std::io::stderr(), "{problems}\n--help lists the settings.");
            Err(ExitCode::from(EXIT_CONFIG))
        }
    }
}

/// Runs a service from start to exit code: TLS, traces and logs first; then `service`, which gets a token that is
/// cancelled by SIGTERM or Ctrl-C and must return within the shutdown deadline; then the last traces are sent. A
/// second signal ends the process at once.
pub fn run<F, Fut, E>(name: &'static str, fleet: &Fleet, service: F) -> ExitCode
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    use std::io::Write;
    let fail = |what: &dyn Display| {
        let _ = writeln!(std::io::stderr(), "{name}: {what}");
        ExitCode::FAILURE
    };
    install_tls();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(async {
        let telemetry = match telemetry::init(name, &fleet.log, fleet.log_format) {
            Ok(telemetry) => telemetry,
            Err(error) => return fail(&error),
        };
        let shutdown = CancellationToken::new();
        if let Err(error) = cancel_on_signal(shutdown.clone()) {
            return fail(&error);
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            "{name} starts: {}",
            fleet.summary()
        );
        let overdue = async {
            shutdown.cancelled().await;
            tokio::time::sleep(fleet.shutdown_deadline).await;
        };
        let code = tokio::select! {
            result = service(shutdown.clone()) => match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(%error, "{name} stops");
                    ExitCode::FAILURE
                }
            },
            () = overdue => {
                tracing::error!("{name} stops: the shutdown deadline has passed");
                ExitCode::FAILURE
            }
        };
        telemetry.shutdown(FLUSH).await;
        code
    });
    // Blocking threads that hang must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// Makes ring the TLS provider of the process; the first call wins.
pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Cancels on the first SIGTERM or Ctrl-C, exits on the second.
pub fn cancel_on_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        shutdown.cancel();
        next().await;
        #[allow(
            clippy::disallowed_methods,
            reason = "the second signal asks for exactly this"
        )]
        std::process::exit(130);
    });
    Ok(())
}

/// What becomes of the process when a task ends by itself, by an error or by a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// Start it again, after 100 ms and twice as long each time up to 5 s.
    Restart,
    /// The service cannot work without it: shut down and exit with a failure.
    Stop,
}

/// What becomes of a task at shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnShutdown {
    /// It ends by itself when it sees the token, and is waited for.
    Wait,
    /// It is dropped.
    Abort,
}

/// The background tasks of a service, each with its policy.
#[derive(Debug, Clone)]
pub struct Tasks {
    shutdown: CancellationToken,
    aborted: CancellationToken,
    tracker: TaskTracker,
    failed: Arc<AtomicBool>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            aborted: CancellationToken::new(),
            tracker: TaskTracker::new(),
            failed: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Starts a task made by `make`, which is called again for every restart.
    pub fn spawn<F, Fut, E>(&self, name: &'static str, on_end: OnEnd, on_shutdown: OnShutdown, make: F)
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send,
        E: Display + Send,
    {
        let Self {
            shutdown,
            aborted,
            failed,
            ..
        } = self.clone();
        let stop = match on_shutdown {
            OnShutdown::Wait => aborted,
            OnShutdown::Abort => shutdown.clone(),
        };
        self.tracker.spawn(async move {
            let mut pause = Duration::from_millis(100);
            loop {
                let run = AssertUnwindSafe(make()).catch_unwind();
                let Some(result) = stop.run_until_cancelled(run).await else {
                    return;
                };
                if shutdown.is_cancelled() {
                    return;
                }
                match result {
                    Ok(Ok(())) => tracing::error!(task = name, "a task ended by itself"),
                    Ok(Err(error)) => tracing::error!(task = name, %error, "a task failed"),
                    Err(_) => tracing::error!(task = name, "a task panicked"),
                }
                match on_end {
                    OnEnd::Stop => {
                        failed.store(true, Ordering::Relaxed);
                        shutdown.cancel();
                        return;
                    }
                    OnEnd::Restart => {
                        if shutdown
                            .run_until_cancelled(tokio::time::sleep(pause))
                            .await
                            .is_none()
                        {
                            return;
                        }
                        pause = (pause * 2).min(Duration::from_secs(5));
                    }
                }
            }
        });
    }

    /// Waits for the tasks that are waited for, at most until `deadline`, then drops the rest. Call it once the
    /// token is cancelled. An error when a task has stopped the process or did not end in time.
    pub async fn drain(self, deadline: tokio::time::Instant) -> Result<(), Unclean> {
        self.tracker.close();
        let in_time = tokio::time::timeout_at(deadline, self.tracker.wait())
            .await
            .is_ok();
        self.aborted.cancel();
        if self.failed.load(Ordering::Relaxed) {
            Err(Unclean("a task that the service needs has failed"))
        } else if in_time {
            Ok(())
        } else {
            Err(Unclean("tasks were still at work at the shutdown deadline"))
        }
    }
}

/// The service did not stop cleanly.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unclean(&'static str);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failing_task_is_restarted_and_a_needed_one_stops_the_process() {
        let shutdown = CancellationToken::new();
        let tasks = Tasks::new(shutdown.clone());
        let starts = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&starts);
        tasks.spawn("flaky", OnEnd::Restart, OnShutdown::Wait, move || {
            let n = seen.fetch_add(1, Ordering::Relaxed);
            async move {
                assert_ne!(n, 0, "the first start panics");
                if n < 3 {
                    Err("not yet")
                } else {
                    std::future::pending().await
                }
            }
        });
        while starts.load(Ordering::Relaxed) < 4 {
            tokio::time::advance(Duration::from_millis(100)).await;
            tokio::task::yield_now().await;
        }
        assert!(!shutdown.is_cancelled());
        tasks.spawn("needed", OnEnd::Stop, OnShutdown::Abort, || async {
            Err::<(), _>("broken")
        });
        shutdown.cancelled().await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        assert!(
            tasks
                .drain(deadline)
                .await
                .unwrap_err()
                .to_string()
                .contains("has failed")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_those_it_should_and_no_longer_than_the_deadline() {
        let shutdown = CancellationToken::new();
        let tasks = Tasks::new(shutdown.clone());
        let token = shutdown.clone();
        tasks.spawn("polite", OnEnd::Stop, OnShutdown::Wait, move || {
            let token = token.clone();
            async move {
                token.cancelled().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, String>(())
            }
        });
        tasks.spawn("deaf", OnEnd::Restart, OnShutdown::Abort, || {
            std::future::pending::<Result<(), String>>()
        });
        shutdown.cancel();
        let start = tokio::time::Instant::now();
        tasks.drain(start + Duration::from_secs(5)).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 1);
    }
}
