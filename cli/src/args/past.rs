//! The arguments of `weir history` and `weir tail`.

use std::time::{Duration, SystemTime};

use clap::Args;
use shared::config::value;
use shared::event::{EventId, Tenant};
use shared::store::history::{Filter, MOST_ROWS, ROWS, State, instant};
use shared::store::report::MOST_HOURS;
use shared::subject::Service;

use super::{Where, service};

/// Whose and what.
#[derive(Debug, Clone, Args)]
pub(crate) struct Of {
    /// Of this service; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = service)]
    pub(crate) service: Vec<Service>,
    /// Only what is done, dead (a dead letter) or failed (an attempt).
    #[arg(long, value_name = "done|dead|failed", value_parser = |text: &str| text.parse::<State>())]
    pub(crate) state: Option<State>,
    /// Of this tenant.
    #[arg(long, value_parser = |text: &str| Tenant::new(text))]
    pub(crate) tenant: Option<Tenant>,
    /// Postgres of the fleet.
    #[arg(long, value_name = "URL")]
    pub(crate) postgres_url: Option<String>,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

impl Of {
    /// The same as a filter.
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            services: self.service.clone(),
            state: self.state,
            tenant: self.tenant.clone(),
            ..Filter::default()
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir history --service github --state dead --since 2h
  weir history --tenant acme --since 2026-11-21 --until 2026-11-22T08:00:00Z
  weir history github:72d3162e-cc78-11e3-81ab-4c9367dc0958
  weir history --hours 24
  weir history --json | jq -r '.events[] | .event_id'

The newest first. What is shown comes from Postgres [WEIR_POSTGRES_URL, else
the fleet of `weir up`], from the replica WEIR_POSTGRES_READ_URL if it keeps up.")]
pub(crate) struct History {
    /// All that is known of this event, instead of a list.
    #[arg(value_name = "EVENT-ID", value_parser = |text: &str| EventId::new(text),
        conflicts_with_all = ["since", "until", "attempts", "limit", "page", "state", "tenant", "hours"])]
    pub(crate) event: Option<EventId>,
    #[command(flatten)]
    pub(crate) of: Of,
    /// Not before this time: 2h (so long ago), 2026-11-21, 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<i64>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<i64>,
    /// Failed attempts too.
    #[arg(long, conflicts_with = "state")]
    pub(crate) attempts: bool,
    /// Most lines of a page.
    #[arg(long, value_name = "N", default_value_t = ROWS, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_ROWS)))]
    pub(crate) limit: u16,
    /// Go on with the page that begins here, as the page before says.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) page: Option<String>,
    /// Instead of events, how many ended in each of the last hours and how long they took.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_HOURS)),
        conflicts_with_all = ["since", "until", "attempts", "page", "state", "tenant"])]
    pub(crate) hours: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir tail
  weir tail --service github --state dead
  weir tail --since 10m --json | jq -r 'select(.took_ms > 1000) | .event_id'

An attempt is shown when it is recorded, which may be after later ones: what is
recorded more than --overlap after it ended is not.")]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) of: Of,
    /// Begin with what came since this time: 10m (so long ago), 2026-11-21T08:00:00Z [now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<i64>,
    /// How late something may be recorded, 1s to 10m.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = overlap)]
    pub(crate) overlap: Duration,
    /// Print a JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

fn time(text: &str) -> Result<i64, String> {
    instant(text, SystemTime::now())
}

fn overlap(text: &str) -> Result<Duration, String> {
    let span = value::duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&span) {
        Ok(span)
    } else {
        Err(format!("{text} is not within 1s and 10m"))
    }
}
