//! The arguments of `weir limits` and `weir explain`.

use clap::{Args, Subcommand, ValueEnum};
use shared::limiter::Rule;
use shared::limiter::live::{Wished, check_name};
use shared::subject::Service;

use super::{Where, service};

#[derive(Debug, Subcommand)]
pub(crate) enum Limits {
    /// Show every limit: how much is left, when the next call may start, what the provider says.
    List(LimitsList),
    /// Show one limit in detail.
    Show(LimitsShow),
    /// Set another rule, for all workers at once, until it is reset.
    Set(LimitsSet),
    /// Only count what a limit would hold up, or put it in force again.
    Shadow(LimitsShadow),
    /// Go back to what the settings say.
    Reset(LimitsReset),
}

/// What to look at beside NATS.
#[derive(Debug, Clone, Args)]
pub(crate) struct Buckets {
    /// Redis of the fleet [WEIR_REDIS_URL, else the fleet of `weir up`, else redis://127.0.0.1:6379]
    #[arg(long, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir limits list
  weir limits list slack --keys 100
  weir limits list --json | jq '.services[].limits[] | select(.free == 0)'

FREE is how many calls (or tokens) could start at once, NEXT in how long the next one may,
USED how much of the last period (or of the window, or of the places) is used.
Below a service's limits stand its busiest channels and methods, and those of
its models (`fast/tokens`), which are changed in the settings alone.")]
pub(crate) struct LimitsList {
    /// Only of this service.
    #[arg(value_parser = service)]
    pub(crate) service: Option<Service>,
    /// Most channels, methods and the like to show of a service, the busiest first.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) keys: u16,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) buckets: Buckets,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  weir limits show github requests\n  weir limits show slack channel:C024BE91L\n  weir limits show agent fast/tokens"
)]
pub(crate) struct LimitsShow {
    /// Whose.
    #[arg(value_parser = service)]
    pub(crate) service: Service,
    /// Which, as `weir limits list` names it.
    pub(crate) name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) buckets: Buckets,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir limits set github requests '3000 per hour, burst 50'
  weir limits set github at-once '10 at once'
  weir limits set billing daily '1000 per day, fixed'
  weir limits set github points none

A running worker is told at once and its answer is waited for; workers that
start later learn it too.")]
pub(crate) struct LimitsSet {
    /// Whose.
    #[arg(value_parser = service)]
    pub(crate) service: Service,
    /// Which; a name that is new limits every call of the service.
    #[arg(value_parser = name)]
    pub(crate) name: String,
    /// `5000 per hour, burst 100`, `1000 per day, fixed` (or aligned), `100 at once`; `none` takes the limit away.
    #[arg(value_parser = rule)]
    pub(crate) rule: Wished,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

/// Whether a limit only counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Turned {
    /// It only counts.
    On,
    /// It is in force.
    Off,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir limits set billing requests '20 per minute' && weir limits shadow billing requests on
  weir limits show billing requests    how many calls it would have held up
  weir limits shadow billing requests off")]
pub(crate) struct LimitsShadow {
    /// Whose.
    #[arg(value_parser = service)]
    pub(crate) service: Service,
    /// Which.
    #[arg(value_parser = name)]
    pub(crate) name: String,
    /// Whether it only counts.
    pub(crate) turned: Turned,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  weir limits reset github requests\n  weir limits reset github")]
pub(crate) struct LimitsReset {
    /// Whose.
    #[arg(value_parser = service)]
    pub(crate) service: Service,
    /// Which [all of them]
    #[arg(value_parser = name)]
    pub(crate) name: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir explain github
  weir explain github:72d3162e-cc78-11e3-81ab-4c9367dc0958
  weir explain order-4711 --service billing

An event is looked for in Postgres [WEIR_POSTGRES_URL, else the fleet of
`weir up`], in the streams of the services and among retries and dead letters,
in each of them through the newest 100,000 messages. What rules made of it, and
what it was made of, is shown as a tree: 10 of what follows from one event, 100
in all.")]
pub(crate) struct Explain {
    /// A service's name or an event's id.
    #[arg(value_name = "SERVICE|EVENT-ID")]
    pub(crate) what: String,
    /// It is an event's id, and the event is of this service.
    #[arg(long, value_parser = service)]
    pub(crate) service: Option<Service>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Postgres of the fleet.
    #[arg(long, value_name = "URL")]
    pub(crate) postgres_url: Option<String>,
    #[command(flatten)]
    pub(crate) buckets: Buckets,
}

fn name(text: &str) -> Result<String, String> {
    if text.contains('/') {
        return Err("is a model's limit: change WEIR_SERVICE_<NAME>_MODEL_<M>_LIMIT or _LIMITS".into());
    }
    check_name(text).map(|()| text.to_owned())
}

fn rule(text: &str) -> Result<Wished, String> {
    match text.trim() {
        "none" => Ok(Wished::Gone),
        text => text.parse::<Rule>().map(Wished::Rule),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_names_are_checked_before_anything_is_asked() {
        assert_eq!(rule("none"), Ok(Wished::Gone));
        assert!(matches!(rule("10 at once"), Ok(Wished::Rule(Rule::AtOnce(10)))));
        assert!(rule("fast").is_err());
        assert!(name("channel:C1").is_ok());
        assert!(name("a b").is_err() && name("").is_err());
        assert!(name("fast/tokens").unwrap_err().contains("_MODEL_<M>_LIMIT"));
    }
}
