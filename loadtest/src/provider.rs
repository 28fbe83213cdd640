//! A simulated third party: it answers like GitHub, Slack or a plain hook, enforces its
//! limits as exactly as the way they are counted ([`Shape`]) allows, and counts every call and every breach.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use loadtest::provider::{Provider, ProviderConfig, Window};
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let mut config = ProviderConfig::default();
//! config.github.core = Window::per_second(50);
//! let provider = Provider::start(config, listener)?;
//! // ... calls to provider.url() ...
//! assert_eq!(provider.stats().total.refused, 0);
//! provider.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Addresses: `/openai/v1`, `/anthropic/v1` and `/xai/v1` are models, `/linear/graphql` is Linear, `/drive/v3`,
//! `/upload/drive/v3`, `/batch/drive/v3` and `/drive/token` are Google Drive, `/api/<method>` is Slack, `/hooks/<anything>` takes signed deliveries, `/_sim/*` tells
//! what was seen (`GET /_sim/stats`, `GET /_sim/calls?id=&limit=`, `POST /_sim/reset`,
//! `POST /_sim/faults`), and every other path is GitHub.

mod clock;
pub mod drive;
mod exchange;
pub mod faults;
pub mod github;
mod graphql;
pub mod hooks;
mod kept;
pub mod ledger;
pub mod limits;
pub mod linear;
pub mod llm;
mod server;
mod sim;
pub mod slack;
mod window;

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::{
    clock::MAX_SKEW_MS,
    drive::DriveLimits,
    faults::Faults,
    github::{GithubLimits, Refusal},
    hooks::HookRules,
    ledger::{Answer, Api, Call},
    limits::{LimitStats, Shape},
    linear::LinearLimits,
    llm::LlmLimits,
    sim::{Concurrency, Stats},
    slack::SlackLimits,
    window::{BadWindow, Window},
};

/// Calls kept for listing unless configured otherwise; about 300 bytes each.
const LEDGER_CAPACITY: usize = 100_000;
/// How long open connections may take to end at a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What the provider allows and how it fails.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// GitHub's limits.
    pub github: GithubLimits,
    /// Slack's limits.
    pub slack: SlackLimits,
    /// Linear's limits.
    pub linear: LinearLimits,
    /// Google Drive's limits.
    pub drive: DriveLimits,
    /// What the hooks check and allow.
    pub hooks: HookRules,
    /// What the makers of models allow.
    pub llm: LlmLimits,
    /// Faults added to every call.
    pub faults: Faults,
    /// Milliseconds by which the provider's clock is ahead, behind when negative: the one of its `Date` and epoch
    /// headers, of its signature checks and of its aligned windows. At most [`MAX_SKEW_MS`].
    pub clock_skew_ms: i64,
    /// Calls kept for listing; the counters cover all calls.
    pub ledger_capacity: usize,
    /// Seed of the faults, so that a run can be repeated.
    pub seed: u64,
}

impl Default for ProviderConfig {
    /// The real providers' limits, no faults, unsigned hooks, the right time.
    fn default() -> Self {
        Self {
            github: GithubLimits::default(),
            slack: SlackLimits::default(),
            linear: LinearLimits::default(),
            drive: DriveLimits::default(),
            hooks: HookRules::default(),
            llm: LlmLimits::default(),
            faults: Faults::default(),
            clock_skew_ms: 0,
            ledger_capacity: LEDGER_CAPACITY,
            seed: 1,
        }
    }
}

/// A running simulated provider; dropping it stops it without waiting.
pub struct Provider {
    address: SocketAddr,
    sim: Arc<sim::Sim>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Provider {
    /// Serves on `listener` until [`Provider::stop`]. Fails when the listener has no address.
    pub fn start(config: ProviderConfig, listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let sim = sim::Sim::new(config, stop.clone());
        let app = server::router(Arc::clone(&sim));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let serving = axum::serve(listener, app).with_graceful_shutdown(stopped.cancelled_owned());
            if let Err(error) = serving.await {
                tracing::error!(%error, "the simulated provider ended");
            }
        });
        Ok(Self {
            address,
            sim,
            stop,
            task: Some(task),
        })
    }

    /// Base URL without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was seen so far.
    pub fn stats(&self) -> Stats {
        self.sim.stats()
    }

    /// The newest calls, at most `limit`, oldest first; with `id` only those of this event.
    pub fn calls(&self, id: Option<&str>, limit: usize) -> Vec<Call> {
        self.sim.calls(id, limit)
    }

    /// How often the write of each event took place, by event id: of the first 500,000 that named theirs.
    pub fn effects(&self) -> HashMap<String, u32> {
        self.sim.effects()
    }

    /// Issues and comments that were created at Linear, and files at Drive.
    pub fn created(&self) -> (usize, usize) {
        self.sim.created()
    }

    /// Forgets calls and counts; limits start anew, faults stay.
    pub fn reset(&self) {
        self.sim.reset();
    }

    /// Changes the faults of the calls to come. Fails when a share or latency is out of bounds.
    pub fn set_faults(&self, faults: Faults) -> Result<(), faults::BadFaults> {
        faults.validate()?;
        self.sim.set_faults(faults);
        Ok(())
    }

    /// Answers what hangs, closes the connections and ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(mut task) = self.task.take()
            && tokio::time::timeout(STOP_PATIENCE, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
