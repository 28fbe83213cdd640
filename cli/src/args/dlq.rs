//! The arguments of `weir dlq`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use shared::config::value;
use shared::event::Tenant;
use shared::subject::{Lane, Service};
use shared::telemetry::propagation::millis;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Where, service};

#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    /// List dead letters, oldest first.
    List(DlqList),
    /// Show one with its headers, history and payload.
    Show(DlqShow),
    /// Send dead letters back to where they lay; each is removed once its replay is kept.
    Replay(DlqReplay),
    /// Remove dead letters for good.
    Purge(DlqPurge),
}

/// Which dead letters: those that fit all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Which dead letters")]
pub(crate) struct Selection {
    /// Of this service.
    #[arg(long, value_name = "NAME", value_parser = service)]
    pub(crate) service: Option<Service>,
    /// With this reason code, for example http_404.
    #[arg(long)]
    pub(crate) code: Option<String>,
    /// With this text in the reason, in capitals or not.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Of the event with this id.
    #[arg(long, conflicts_with = "id_prefix")]
    pub(crate) id: Option<String>,
    /// Of events whose ids begin so.
    #[arg(long, value_name = "TEXT")]
    pub(crate) id_prefix: Option<String>,
    /// From this lane.
    #[arg(long, value_parser = lane())]
    pub(crate) lane: Option<Lane>,
    /// Of this tenant.
    #[arg(long, value_parser = |text: &str| Tenant::new(text))]
    pub(crate) tenant: Option<Tenant>,
    /// Died then or later: an age such as 2h, or a time such as 2026-11-21 or 2026-11-21T08:30:00Z.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) after: Option<u64>,
    /// Died before then.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) before: Option<u64>,
    /// With at least this many failed attempts.
    #[arg(long, value_name = "N")]
    pub(crate) min_attempts: Option<u32>,
}

/// What a command is to be done to.
#[derive(Debug, Clone, Args)]
pub(crate) struct Chosen {
    /// Their sequences, as `weir dlq list` shows them.
    #[arg(value_name = "SEQUENCE", conflicts_with_all = ["all", "Selection"])]
    pub(crate) sequences: Vec<u64>,
    /// Only say how many letters it would be.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// All that are there now.
    #[arg(long, help_heading = "Which dead letters")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dlq list
  weir dlq list --service github --code http_404 --limit 10
  weir dlq list --after 2h --min-attempts 3 --reason 'timed out'
  weir dlq list --json --limit 1000000 | jq -r .id")]
pub(crate) struct DlqList {
    /// Most letters to list.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fleet: Where,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  weir dlq show 17\n  weir dlq show 17 --raw > payload")]
pub(crate) struct DlqShow {
    /// Its sequence, as `weir dlq list` shows it.
    pub(crate) sequence: u64,
    /// Print JSON, the payload as base64.
    #[arg(long, conflicts_with = "raw")]
    pub(crate) json: bool,
    /// Write the payload's bytes as they came and nothing else.
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dlq replay 17 18
  weir dlq replay --service github --code timeout --rate 20/s
  weir dlq replay --all --dry-run

A letter goes back to its lane with its id, bytes, headers and history, and with
all its attempts before it again; it is removed once the server keeps the event.
So Ctrl-C, a crash or a lost connection loses nothing: the same command goes on
with what is left. Letters that die again meanwhile are new ones; --before with
the time of the first run leaves them out.

A run that died between the two sends such letters, at most 256, once more. The
server drops them within WEIR_STREAM_DEDUP_WINDOW; later than that, or after its
restart, workers with Postgres find done events done.")]
pub(crate) struct DlqReplay {
    #[command(flatten)]
    pub(crate) insisting: Insisting,
    /// No faster than this, for example 10/s or 100/m.
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub(crate) rate: Option<Rate>,
    #[command(flatten)]
    pub(crate) fleet: Where,
    #[command(flatten)]
    pub(crate) chosen: Chosen,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dlq purge 17 18
  weir dlq purge --service github --before 7d
  weir dlq purge --all --dry-run
  weir dlq purge --all --yes

What is purged cannot be brought back. On a terminal it asks; elsewhere it needs
--yes. Letters that die after it was started are left alone.")]
pub(crate) struct DlqPurge {
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) insisting: Insisting,
    #[command(flatten)]
    pub(crate) fleet: Where,
    #[command(flatten)]
    pub(crate) chosen: Chosen,
}

/// How long to go on trying.
#[derive(Debug, Clone, Args)]
pub(crate) struct Insisting {
    /// How long to wait for a full stream to have room, or for a lost connection, before it stops.
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = value::duration)]
    pub(crate) patience: Duration,
}

/// So many in a span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// 0.001 to 1,000,000.
    pub(crate) count: f64,
    /// A second, a minute or an hour.
    pub(crate) per: Duration,
}

fn lane() -> impl TypedValueParser<Value = Lane> {
    PossibleValuesParser::new(Lane::ALL.map(Lane::as_str)).try_map(|text| {
        let named = Lane::ALL.into_iter().find(|lane| lane.as_str() == text);
        named.ok_or("is no lane")
    })
}

fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("{text:?} is no rate: write 10/s, 100/m or 1000/h");
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let count: f64 = number.trim().parse().map_err(|_| wrong())?;
    if (0.001..=1e6).contains(&count) {
        let per = Duration::from_secs(seconds);
        Ok(Rate { count, per })
    } else {
        Err("must be between 0.001 and 1000000".into())
    }
}

/// A time or an age, in milliseconds since the Unix epoch.
fn moment(text: &str) -> Result<u64, String> {
    if let Ok(age) = value::duration(text) {
        let then = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
        return Ok(millis(then));
    }
    let text = text.trim();
    let midnight = format!("{text}T00:00:00Z");
    [text, &midnight]
        .into_iter()
        .find_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        .map(|then| millis(SystemTime::from(then)))
        .ok_or_else(|| {
            format!("{text:?} is no time: write an age such as 2h or 7d, 2026-11-21 or 2026-11-21T08:30:00Z")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_moments_are_checked_before_anything_is_asked() {
        let of = |text| rate(text).map(|rate| (rate.count, rate.per.as_secs()));
        assert_eq!(of("10/s"), Ok((10.0, 1)));
        assert_eq!(of("60/m"), Ok((60.0, 60)));
        assert_eq!(of("0.5 / h"), Ok((0.5, 3600)));
        assert_eq!(of("7"), Ok((7.0, 1)));
        for bad in ["", "0/s", "-1/s", "nan/s", "10/y", "1e9/s", "inf"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(moment("1970-01-02"), Ok(86_400_000));
        assert_eq!(moment("1970-01-01T02:00:01.5+01:00"), Ok(3_601_500));
        let (now, age) = (millis(SystemTime::now()), moment("2h").unwrap());
        assert!((now - 7_200_000..=now - 7_190_000).contains(&age), "{age}");
        assert_eq!(moment("99999999d"), Ok(0), "older than everything");
        for bad in ["", "yesterday", "2026-13-01", "2026-11-21 08:30", "-2h"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
