//! Answers what people ask about warming: only the leader knows, and hears the questions.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use shared::access::read;
use shared::subject::Service;
use shared::warm::{Explained, Mode, Prediction, Question, Reply, State, Status, paused};
use tokio::time::timeout;

use super::desk::Desk;
use super::{Term, now_ms};
use crate::warm::Warmer;
use crate::warm::plan::{Verdict, Worth};

/// Longest question, in bytes.
const LONGEST: usize = 4096;
/// Most keys that are explained at once.
const MOST: usize = 20;
/// How long the database may take.
const WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn answer(term: Arc<Term>, message: Message) {
    let Some(to) = message.reply else { return };
    let reply = match read(&message.payload) {
        Ok(Question::Status) => status(term.clone()).await.map(Reply::Status),
        Ok(Question::Explain { service, key }) => {
            explain(term.clone(), &service, &key).await.map(Reply::Explained)
        }
        Err(why) => Err(why),
    };
    let json = serde_json::to_vec(&reply.unwrap_or_else(Reply::Not)).unwrap_or_default();
    if let Err(error) = term.job.client.publish(to, json.into()).await {
        tracing::debug!(%error, "a question about warming was not answered");
    }
}

fn read(payload: &[u8]) -> Result<Question, String> {
    if payload.len() > LONGEST {
        return Err(format!("a question has at most {LONGEST} bytes"));
    }
    serde_json::from_slice(payload).map_err(|error| format!("no question: {error}"))
}

async fn status(term: Arc<Term>) -> Result<Status, String> {
    let now_ms = now_ms();
    let paused = paused(&term.bucket, None, now_ms).await?;
    let desks = Arc::clone(&term);
    // A plan may be at work with what is asked for.
    let services = tokio::task::spawn_blocking(move || {
        let desks = desks.desks.iter();
        desks.map(|desk| desk.status(now_ms)).collect()
    });
    Ok(Status {
        mode: term.job.mode,
        off: term.job.off().map(str::to_owned),
        at_ms: now_ms,
        paused,
        services: services.await.map_err(|error| error.to_string())?,
    })
}

async fn explain(term: Arc<Term>, service: &str, asked: &str) -> Result<Vec<Explained>, String> {
    let service = Service::new(service).map_err(|why| format!("the service {why}"))?;
    let desk = term.desks.iter().find(|desk| desk.service == service);
    let desk = Arc::clone(desk.ok_or_else(|| format!("the fleet has no service {service}"))?);
    if let Some(off) = term.job.off() {
        return Err(off.to_owned());
    }
    let database = term.job.database.as_ref().ok_or("no access log is known")?;
    let hex = (asked.len() == 16)
        .then(|| u64::from_str_radix(asked, 16).ok())
        .flatten();
    let found = async {
        match hex {
            Some(key) => read::what(database, &service, &[key]).await,
            None => read::find(database, &service, asked, MOST).await,
        }
    };
    let found = timeout(WITHIN, found)
        .await
        .map_err(|_| "Postgres does not answer")?;
    let found = found.map_err(|error| format!("Postgres: {error}"))?;
    let mode = term.job.mode;
    let explained = tokio::task::spawn_blocking(move || {
        let mut all: Vec<_> = found
            .into_iter()
            .map(|(digest, what)| {
                let tenant = what.tenant.map(|tenant| tenant.as_str().to_owned());
                one(&desk, mode, digest.id(), Some(what.name), tenant)
            })
            .collect();
        if all.is_empty() {
            all.extend(hex.map(|key| one(&desk, mode, key, None, None)));
        }
        all.sort_by_key(|one| std::cmp::Reverse(one.seen));
        all
    });
    explained.await.map_err(|error| error.to_string())
}

fn one(desk: &Desk, mode: Mode, key: u64, name: Option<String>, tenant: Option<String>) -> Explained {
    let (now_ms, state) = (now_ms(), desk.view().state);
    let known = desk.with(|warmer| {
        let known = warmer.model().known(key);
        let known = known.map(|known| (known.seen, known.cached_until_ms));
        let said = warmer.explain(key, now_ms).into_iter();
        let said = said.map(|(prediction, verdict)| Prediction {
            source: prediction.source.as_str().to_owned(),
            key: format!("{:016x}", prediction.key),
            probability: prediction.probability,
            support: prediction.support,
            verdict: match verdict {
                Verdict::Unfounded => wanting(prediction.probability, prediction.support),
                verdict => words(warmer, verdict, mode, state, now_ms),
            },
        });
        (known, said.collect())
    });
    let (known, predictions) = known.unwrap_or_default();
    Explained {
        key: format!("{key:016x}"),
        name,
        tenant,
        seen: known.map_or(0, |(seen, _)| seen),
        cached_until_ms: known.map(|(_, until)| until).filter(|until| *until > now_ms),
        predictions,
    }
}

/// Which of probability and support is less than is needed.
fn wanting(probability: f32, support: u32) -> String {
    let worth = Worth::default();
    let likely = format!("{:.0} %", worth.probability * 100.0);
    let often = format!("{} times", worth.support);
    match (probability >= worth.probability, support >= worth.support) {
        (false, false) => format!("too unlikely and seen too rarely: {likely} and {often} are needed"),
        (false, true) => format!("too unlikely: {likely} are needed"),
        (true, false) => format!("seen too rarely: {often} are needed"),
        (true, true) => "this key itself has not been seen".to_owned(),
    }
}

fn words(warmer: &Warmer, verdict: Verdict, mode: Mode, state: State, now_ms: u64) -> String {
    let candidate = match verdict {
        Verdict::Off => return "this source is switched off".to_owned(),
        Verdict::Unfounded => return wanting(0.0, 0),
        Verdict::Cached => return "it is in the cache until after the next round".to_owned(),
        Verdict::Open => return "an earlier prediction of it is open".to_owned(),
        Verdict::TooDear => return "fetching it takes less time than a call is worth".to_owned(),
        Verdict::Worth(candidate) => candidate,
    };
    let gain = format!("worth a call, {:.0} ms of waiting", candidate.gain_ms);
    let but = match (mode, state) {
        (Mode::On, State::Live) if !warmer.judge().live(candidate.prediction.source, now_ms) => {
            "only noted: this source has not proved itself"
        }
        (Mode::On, State::Live) if warmer.calls_left() == 0 => "no call is left of the share for warming",
        (Mode::On, State::Live) => return gain,
        (Mode::On, State::Paused) => "warming is paused",
        (Mode::On, State::NoRoom) => "events wait",
        (Mode::On, State::Silent) => "silent since the API refused a call",
        (Mode::On, _) => "only noted: no source has proved itself",
        (Mode::Off | Mode::Shadow, _) => "only noted: WEIR_WARM is not on",
    };
    format!("{gain}; {but}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_which_of_probability_and_support_is_wanting() {
        let both = wanting(0.1, 9);
        assert!(both.contains("unlikely") && both.contains("rarely"), "{both}");
        assert_eq!(wanting(0.49, 10), "too unlikely: 50 % are needed");
        assert_eq!(wanting(0.5, 9), "seen too rarely: 10 times are needed");
        assert!(wanting(0.9, 99).contains("not been seen"));
    }
}
