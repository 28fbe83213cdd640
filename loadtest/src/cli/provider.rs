//! `weir-loadtest provider`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use loadtest::provider::{Faults, HookRules, MAX_SKEW_MS, Provider, ProviderConfig, Refusal, Shape, Window};
use serde_json::json;
use shared::config::value::duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{CliError, say};

/// Runs a simulated provider that answers like GitHub, Slack and models, enforces its limits and counts every breach.
///
/// Prints one JSON line with its address when it is ready, and one with what it counted at its end.
/// `/api/<method>` is Slack, `/openai/v1`, `/anthropic/v1` and `/xai/v1` are models, `/hooks/<anything>` takes signed
/// deliveries, every other path is GitHub.
/// Ask it: GET /_sim/stats, GET /_sim/calls?id=<event id>; POST /_sim/reset, POST /_sim/faults.
#[derive(Debug, Args)]
pub(super) struct ProviderArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: String,
    /// GitHub's primary limit for each credential, e.g. '50 per second'.
    #[arg(long, default_value = "5000 per hour", value_name = "LIMIT")]
    github: Window,
    /// GitHub's limit on writes (POST, PUT, PATCH, DELETE).
    #[arg(long, default_value = "80 per minute", value_name = "LIMIT")]
    github_writes: Window,
    /// GitHub's limit on points for each credential, e.g. '900 per minute': a write is 5, any other call 1.
    #[arg(long, value_name = "LIMIT")]
    github_points: Option<Window>,
    /// GitHub's limit on requests at the same time.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    github_concurrent: u16,
    /// Status of GitHub's refusals.
    #[arg(long, value_enum, default_value_t = Status::Alternate)]
    github_refusal: Status,
    /// How GitHub's primary limit is counted: over any span (sliding, the strictest), from the first call (fixed), from
    /// whole multiples of the span on the provider's clock (aligned), or as a bucket (bucket, bucket:<burst>).
    #[arg(long, default_value = "fixed", value_name = "SHAPE")]
    github_window: Shape,
    /// GitHub's answers tell nothing of the limit in x-ratelimit headers.
    #[arg(long)]
    github_silent: bool,
    /// Slack's limit for each method and token.
    #[arg(long, default_value = "100 per minute", value_name = "LIMIT")]
    slack: Window,
    /// Slack's limit on chat.postMessage for each channel.
    #[arg(long, default_value = "1 per second", value_name = "LIMIT")]
    slack_channel: Window,
    /// How both are counted.
    #[arg(long, default_value = "sliding", value_name = "SHAPE")]
    slack_window: Shape,
    /// Limit on deliveries to each hook; none without it.
    #[arg(long, value_name = "LIMIT")]
    hooks: Option<Window>,
    /// How it is counted.
    #[arg(long, default_value = "sliding", value_name = "SHAPE")]
    hooks_window: Shape,
    /// File with the Standard Webhooks secret (whsec_...) that deliveries to hooks must be signed with.
    #[arg(long, value_name = "FILE")]
    hooks_secret_file: Option<PathBuf>,
    /// What models answer; without it they make an answer of the question.
    #[arg(long, value_name = "TEXT")]
    model_says: Option<String>,
    /// Milliseconds by which the provider's clock is ahead, behind when negative.
    #[arg(long, default_value_t = 0, value_name = "MS", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-MAX_SKEW_MS..=MAX_SKEW_MS))]
    clock_skew_ms: i64,
    /// Median latency added to every answer, e.g. 20ms.
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = duration)]
    latency: Duration,
    /// 99th percentile of that latency; without it the latency is fixed.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    latency_p99: Option<Duration>,
    /// Share of calls answered 500 without an effect, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    errors: f64,
    /// Share of calls never answered, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    hangs: f64,
    /// Share of calls whose answer is cut after its effect took place, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    closes: f64,
    /// Share of calls answered 500 although their effect took place, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    late_errors: f64,
    /// Share of calls never answered although their effect took place, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    swallows: f64,
    /// Share of Slack's calls answered 200 with an error in it, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    lies: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    #[value(name = "403")]
    Forbidden,
    #[value(name = "429")]
    TooMany,
    Alternate,
}

impl ProviderArgs {
    pub(super) async fn run(self, stop: &CancellationToken) -> Result<(), CliError> {
        let config = self.config()?;
        let listening = TcpListener::bind(&self.listen).await;
        let listener = listening.map_err(CliError::at(format!("--listen {}", self.listen)))?;
        let provider = Provider::start(config, listener).map_err(CliError::at("--listen"))?;
        say(&json!({"ready": "provider", "url": provider.url(), "pid": std::process::id()}))?;
        stop.cancelled().await;
        let stats = provider.stats();
        provider.stop().await;
        say(&json!({"ended": "provider", "stats": stats}))
    }

    fn config(&self) -> Result<ProviderConfig, CliError> {
        let secret = self
            .hooks_secret_file
            .as_ref()
            .map(|path| super::run::secret(path))
            .transpose()?;
        let hooks = HookRules::new(secret.as_deref(), self.hooks);
        let mut hooks = hooks.map_err(CliError::at("--hooks-secret-file"))?;
        hooks.shape = self.hooks_window;
        let faults = Faults {
            latency_p50_ms: self.latency.as_secs_f64() * 1e3,
            latency_p99_ms: self.latency_p99.unwrap_or_default().as_secs_f64() * 1e3,
            errors: self.errors,
            hangs: self.hangs,
            closes: self.closes,
            late_errors: self.late_errors,
            swallows: self.swallows,
            lies: self.lies,
        };
        faults.validate().map_err(CliError::at("faults"))?;
        let mut config = ProviderConfig {
            hooks,
            faults,
            clock_skew_ms: self.clock_skew_ms,
            ..ProviderConfig::default()
        };
        config.github.core = self.github;
        config.github.writes = self.github_writes;
        config.github.concurrent = usize::from(self.github_concurrent);
        config.github.refusal = match self.github_refusal {
            Status::Forbidden => Refusal::Forbidden,
            Status::TooMany => Refusal::TooMany,
            Status::Alternate => Refusal::Alternating,
        };
        config.github.points = self.github_points;
        config.github.shape = self.github_window;
        config.github.headers = !self.github_silent;
        config.llm.says.clone_from(&self.model_says);
        config.slack.method = self.slack;
        config.slack.channel = self.slack_channel;
        config.slack.shape = self.slack_window;
        Ok(config)
    }
}
