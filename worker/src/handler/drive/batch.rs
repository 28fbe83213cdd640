//! Several calls as one: each has the outcome that its own part of the answer tells.

use std::time::SystemTime;

use http::{Method, header};
use shared::event::Event;
use shared::failure::Failure;

use super::wish::{Call, Wish};
use super::{Drive, multipart};
use crate::handler::{Completion, Outcome};
use crate::outbound::{Answer, oversized};
use crate::provider::Provider;
use crate::quota::Turn;

/// A call that some events want, and what becomes of it.
struct Asked<'t> {
    call: Call,
    /// The tag of what is known of it.
    known: Option<&'t str>,
    outcome: Option<Outcome>,
}

/// One request for all of these events.
pub(super) async fn all(drive: &Drive, events: &[&Event], turn: &Turn) -> Vec<Option<Outcome>> {
    let mut asked: Vec<Asked<'_>> = Vec::new();
    let mut places = Vec::with_capacity(events.len());
    for event in events {
        let call = match Wish::of(event) {
            Ok(Some(Wish::Call(call))) if call.can_be_batched() => call,
            Ok(_) => {
                places.push(None);
                continue;
            }
            Err(failure) => {
                places.push(Some(Err(failure)));
                continue;
            }
        };
        let known = turn.knows(&event.id);
        let same = |other: &Asked<'_>| {
            call.method == Method::GET && other.known == known && other.call.asks_as(&call)
        };
        let at = asked.iter().position(same).unwrap_or_else(|| {
            asked.push(Asked {
                call,
                known,
                outcome: None,
            });
            asked.len() - 1
        });
        places.push(Some(Ok(at)));
    }
    let failed = match ask(drive, &asked, turn).await {
        Ok((answers, cut)) => {
            for (asked, answer) in asked.iter_mut().zip(answers) {
                // What was cut off is to be asked for alone.
                if answer.is_some() || !cut {
                    asked.outcome = Some(outcome(asked, answer, turn));
                }
            }
            cut.then(oversized)
        }
        Err(failure) => Some(failure),
    };
    let several = asked.len() > 1;
    let of = |place: Option<Result<usize, Failure>>| {
        let at = match place? {
            Ok(at) => at,
            Err(failure) => return Some(Err(failure)),
        };
        match (&asked[at].outcome, &failed) {
            (Some(outcome), _) => Some(outcome.clone()),
            (None, Some(Failure::Permanent { .. })) if several => None,
            (None, Some(failure)) => Some(Err(failure.clone())),
            (None, None) => Some(Ok(Completion::nothing_to_do())),
        }
    };
    places.into_iter().map(of).collect()
}

/// The answers to the calls, and whether there was more than is read.
async fn ask(
    drive: &Drive,
    asked: &[Asked<'_>],
    turn: &Turn,
) -> Result<(Vec<Option<Answer>>, bool), Failure> {
    if asked.is_empty() {
        return Ok((Vec::new(), false));
    }
    let calls: Vec<_> = asked.iter().map(|asked| (&asked.call, asked.known)).collect();
    let boundary = multipart::boundary();
    let body = multipart::write(&calls, &boundary);
    let (answer, judged) = drive
        .send(Method::POST, "/batch/drive/v3", turn, |request| {
            let kind = format!("multipart/mixed; boundary={boundary}");
            request.header(header::CONTENT_TYPE, kind).body(body)
        })
        .await?;
    judged?;
    let answers = multipart::read(&answer, calls.len());
    // Only calls that may be made again go together.
    let answers = answers.ok_or_else(|| answer.unreadable("answer to a batch", true))?;
    Ok((answers, answer.cut))
}

fn outcome(asked: &Asked<'_>, answer: Option<Answer>, turn: &Turn) -> Outcome {
    let Some(answer) = answer else {
        return Err(Failure::unknown("answer", "it says nothing of this call"));
    };
    let now = SystemTime::now();
    let mut reading = Provider::Drive.read(&answer, now);
    if reading.refusal.is_some() {
        // A refusal of one is a refusal of all that come.
        reading = turn.answered(&answer);
    }
    let judged = Provider::Drive.failure(&answer, &reading, now);
    Drive::done(&asked.call, &answer, judged, asked.known.is_some())
}
