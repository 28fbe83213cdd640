//! What a service waits for.

use std::fmt::Write as _;

use futures_util::future::try_join_all;
use scheduler::observe::{self, Observation};
use serde_json::json;
use shared::subject::{Lane, Service};

use super::budgets::Budget;
use super::limits::Limits;
use super::plan;
use crate::failure::Failure;
use crate::fleet::Reached;
use crate::limits::buckets::Limit;
use crate::limits::models::Model;
use crate::limits::reading::{Hold, read_at};
use crate::limits::{show, unsaid};
use crate::moment;
use crate::tables::Columns;
use crate::terminal::{self, clean};
use crate::upstreams::Out;

/// Channels, methods and the like that are told to be in the way.
const MOST_APART: usize = 5;

pub(super) async fn run(reached: &Reached, service: &Service, as_json: bool) -> Result<(), Failure> {
    let mut observed = observe::observe(&reached.js, std::slice::from_ref(service)).await;
    let observation = match observed.remove(service) {
        Some(Ok(observation)) => observation,
        Some(Err(error)) => return Err(Failure::failed(error)),
        None => return Err(Failure::Failed(format!("{service} cannot be observed"))),
    };
    let asking = asking(reached, service).await?;
    let limits = Limits::read(reached, service).await?;
    let out = Out::read(&reached.js, service).await?;
    let apart = limits.apart().await;
    let retrying = observation.retrying.unwrap_or_default();
    let backlog = observation.sum(|lane| lane.waiting) + retrying;
    let done = (backlog > 0 && limits.away.is_none() && out.all().is_none())
        .then(|| plan::start_of(&limits.all, backlog))
        .flatten();
    let mut sentences = sentences(service, &observation, asking, &limits, &out, &apart, done);
    sentences.extend(super::models::sentences(&limits));
    if as_json {
        let slowest = plan::slowest(&limits.all);
        terminal::out_json(&json!({
            "service": service.as_str(),
            "read_at": read_at(),
            "lanes": observation.lanes,
            "in_flight": observation.sum(|lane| lane.unacked),
            "retrying": observation.retrying,
            "dead": observation.dead,
            "because": sentences,
            "out_of_service": out.json(),
            "in_the_way": plan::in_the_way(&limits.all).map(Limit::json),
            "calls_per_second": slowest.map(|(_, rate)| rate),
            "slowest_limit": slowest.map(|(limit, _)| &limit.name),
            "done_at": done.map(moment::stamp),
            "limits": limits.all.iter().map(Limit::json).collect::<Vec<_>>(),
            "budgets": limits.budgets.iter().map(Budget::json).collect::<Vec<_>>(),
            "models": limits.models.iter().map(Model::json).collect::<Vec<_>>(),
            "apart": apart.iter().take(MOST_APART).map(Limit::json).collect::<Vec<_>>(),
            "apart_total": apart.len(),
            "redis_problem": limits.away,
        }));
    } else {
        terminal::out(heading(service, &observation));
        terminal::out("");
        for sentence in &sentences {
            terminal::out(sentence);
        }
        let theirs = limits.models.iter().flat_map(Model::named);
        let all: Vec<_> = limits.all.iter().cloned().chain(theirs).collect();
        if !all.is_empty() {
            terminal::out("");
            terminal::out(table(&all).text());
        }
    }
    match &limits.now {
        Some(_) => Ok(()),
        None => Err(Failure::Failed(unsaid(service))),
    }
}

/// Requests for events that workers have open.
async fn asking(reached: &Reached, service: &Service) -> Result<usize, Failure> {
    let name = service.stream();
    let stream = reached.js.get_stream(&name).await;
    let stream = stream.map_err(Failure::at(format!("stream {name}")))?;
    let infos = try_join_all(Lane::ALL.map(|lane| stream.consumer_info(lane.as_str()))).await;
    let infos = infos.map_err(Failure::at(format!("consumers of {name}")))?;
    Ok(infos.iter().map(|info| info.num_waiting).sum())
}

fn heading(service: &Service, observation: &Observation) -> String {
    let lanes = observation.lanes.iter();
    let lanes: Vec<_> = lanes
        .map(|lane| format!("{} {}", lane.pending, lane.lane))
        .collect();
    format!(
        "{service}: {} wait ({}), {} in flight, {} for a retry or their turn, {} dead",
        observation.sum(|lane| lane.pending),
        lanes.join(", "),
        observation.sum(|lane| lane.unacked),
        observation.retrying.unwrap_or_default(),
        observation.dead.unwrap_or_default(),
    )
}

/// What keeps the service, how fast it may go, and when it will be done.
fn sentences(
    service: &Service,
    observation: &Observation,
    asking: usize,
    limits: &Limits,
    out: &Out,
    apart: &[Limit],
    done: Option<f64>,
) -> Vec<String> {
    let (pending, unacked) = (
        observation.sum(|lane| lane.pending),
        observation.sum(|lane| lane.unacked),
    );
    let retrying = observation.retrying.unwrap_or_default();
    let backlog = pending + unacked + retrying;
    let mut all = out.sentences();
    all.extend(limits.budgets.iter().map(Budget::sentence));
    match limits.because() {
        _ if out.all().is_some() => {}
        Some(because) => all.push(because),
        None if limits.now.is_none() || limits.budgets.iter().any(Budget::holds) => {}
        None if pending > 0 && unacked == 0 && asking == 0 => all.push(format!(
            "No limit is in the way, but no worker asks for the events at this moment: does one run for {service}, and \
             what does its log say?"
        )),
        None if pending > 0 => {
            let own = if limits.models.is_empty() {
                ""
            } else {
                " of the service itself"
            };
            all.push(format!(
                "No limit{own} is in the way: workers and the API set the pace."
            ));
        }
        None if unacked > 0 => all.push("Nothing waits; the rest is worked on right now.".to_owned()),
        None if retrying > 0 => {
            all.push("Nothing waits but what was put off to a later time.".to_owned());
        }
        None => all.push("Nothing is left to do.".to_owned()),
    }
    if !apart.is_empty() {
        let names: Vec<_> = apart
            .iter()
            .take(MOST_APART)
            .map(|limit| {
                let next = limit.reading.as_ref().map_or(0.0, |reading| reading.next);
                format!("{} ({})", clean(&limit.name, 80), moment::within(next))
            })
            .collect();
        let more = apart.len().saturating_sub(MOST_APART);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        all.push(format!(
            "Some calls wait for limits of their own: {}{more}; the others do not wait for them.",
            names.join(", ")
        ));
    }
    if let Some((limit, rate)) = plan::slowest(&limits.all) {
        all.push(format!(
            "In the long run the limits allow {} ({}: {}).",
            show::per(rate),
            clean(&limit.name, 80),
            limit.rule_text()
        ));
    }
    if let Some(done) = done {
        let events = if backlog == 1 {
            "The one event"
        } else {
            "All {n} events"
        };
        all.push(format!(
            "{} can have begun by {} at the earliest, if each makes one call.",
            events.replace("{n}", &backlog.to_string()),
            moment::until(done)
        ));
    }
    all
}

fn table(limits: &[Limit]) -> Columns {
    let mut columns = Columns::new(&["limit", "rule", "#free", "now"]);
    for limit in limits {
        let why = limit.rule.zip(limit.reading.as_ref());
        let mut now = match why {
            Some((rule, reading)) => reading.why(rule).unwrap_or_else(|| "open".to_owned()),
            None if limit.is_of_each() => "a bucket for each".to_owned(),
            None => "unknown".to_owned(),
        };
        if let Some(reading) = &limit.reading
            && let Some((left, reset)) = reading.told
            && reading.hold != Hold::Told
        {
            let _ = write!(now, "; provider: {left:.0} left until {}", moment::until(reset));
        }
        if limit.shadow {
            now += "; only counted (shadow)";
        }
        if let Some(scope) = limit.scope() {
            let _ = write!(now, "; {scope}");
        }
        columns.row([
            clean(&limit.name, 80).into_owned(),
            limit.rule_text(),
            match &limit.reading {
                Some(reading) => format!("{:.0}", reading.free),
                None if limit.is_of_each() => String::new(),
                None => "?".to_owned(),
            },
            now,
        ]);
    }
    columns
}

#[cfg(test)]
mod tests {
    use scheduler::observe::LaneDepth;
    use shared::limiter::live::Now;

    use super::*;
    use crate::limits::buckets;

    fn observed(pending: u64, unacked: u64, retrying: u64) -> Observation {
        Observation {
            lanes: vec![LaneDepth {
                lane: "normal".into(),
                pending,
                unacked,
                waiting: pending + unacked,
                redelivered: 0,
            }],
            retrying: Some(retrying),
            dead: Some(2),
            oldest_at: None,
            observed_at: 0,
        }
    }

    #[test]
    fn each_reason_has_its_sentence() {
        let github = Service::new("github").unwrap();
        let now: Now = serde_json::from_str(
            r#"{"tag": "{github:0}", "provider": "github", "away": "stop", "ahead": 100, "at": 0, "worker": "w",
                "set": 0, "limits": {"requests": {"rule": "60 per minute", "shadow": false, "apart": false}}}"#,
        )
        .unwrap();
        let all = buckets::limits(&now);
        let limits = |away: Option<&str>| Limits {
            now: Some(now.clone()),
            all: all.clone(),
            models: Vec::new(),
            budgets: Vec::new(),
            away: away.map(str::to_owned),
            buckets: None,
        };
        let first = |observation: &Observation, asking, away| {
            sentences(
                &github,
                observation,
                asking,
                &limits(away),
                &Out::default(),
                &[],
                None,
            )
            .remove(0)
        };
        assert_eq!(
            heading(&github, &observed(7, 3, 1)),
            "github: 7 wait (7 normal), 3 in flight, 1 for a retry or their turn, 2 dead"
        );
        assert!(first(&observed(7, 0, 0), 0, None).contains("no worker asks for the events"));
        assert!(first(&observed(7, 0, 0), 3, None).contains("set the pace"));
        assert!(first(&observed(0, 3, 0), 3, None).contains("worked on right now"));
        assert!(first(&observed(0, 0, 3), 3, None).contains("put off to a later time"));
        assert_eq!(first(&observed(0, 0, 0), 3, None), "Nothing is left to do.");
        assert_eq!(
            first(&observed(7, 0, 0), 3, Some("Redis at x does not answer")),
            "Limits cannot be asked, so no call begins until it is back. Redis at x does not answer"
        );
        let said = sentences(
            &github,
            &observed(7, 0, 0),
            3,
            &limits(None),
            &Out::default(),
            &[],
            Some(9.0),
        );
        assert!(
            said[1].starts_with("In the long run the limits allow 59."),
            "{said:?}"
        );
        assert!(
            said[2].starts_with("All 7 events can have begun by ") && said[2].contains("(in 9.0s)"),
            "{said:?}"
        );
    }
}
