//! Several calls as one: each has the outcome that its own part of the answer tells.

use std::time::SystemTime;

use http::{Method, header};
use shared::event::Event;
use shared::failure::Failure;

use super::files::Known;
use super::wish::{Call, Wish};
use super::{Drive, multipart};
use crate::handler::{Completion, Outcome};
use crate::outbound::{Answer, oversized};
use crate::provider::Provider;
use crate::quota::Turn;

/// A call that some events want, and what becomes of it.
struct Asked {
    call: Call,
    known: Option<Known>,
    outcome: Option<Outcome>,
}

/// One request for all of these events.
pub(super) async fn all(drive: &Drive, events: &[&Event], turn: &Turn) -> Vec<Option<Outcome>> {
    let mut asked: Vec<Asked> = Vec::new();
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
        let same = |other: &Asked| call.method == Method::GET && other.call == call;
        let at = match asked.iter().position(same) {
            Some(at) => at,
            None => {
                let known = drive.files.of(&call).await;
                let fresh = known
                    .as_ref()
                    .and_then(|known| known.fresh(&call, SystemTime::now()));
                asked.push(Asked {
                    call,
                    known,
                    outcome: fresh.map(Ok),
                });
                asked.len() - 1
            }
        };
        places.push(Some(Ok(at)));
    }
    let open: Vec<usize> = (0..asked.len())
        .filter(|at| asked[*at].outcome.is_none())
        .collect();
    let failed = match ask(drive, &asked, &open, turn).await {
        Ok((answers, cut)) => {
            for (at, answer) in open.into_iter().zip(answers) {
                // What was cut off is to be asked for alone.
                if answer.is_some() || !cut {
                    asked[at].outcome = Some(outcome(drive, &asked[at], answer, turn).await);
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

/// The answers to the calls that are open, and whether there was more than is read.
async fn ask(
    drive: &Drive,
    asked: &[Asked],
    open: &[usize],
    turn: &Turn,
) -> Result<(Vec<Option<Answer>>, bool), Failure> {
    if open.is_empty() {
        return Ok((Vec::new(), false));
    }
    let part = |at: &usize| {
        let Asked { call, known, .. } = &asked[*at];
        (call, known.as_ref().and_then(|known| known.etag.as_deref()))
    };
    let calls: Vec<_> = open.iter().map(part).collect();
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

async fn outcome(drive: &Drive, asked: &Asked, answer: Option<Answer>, turn: &Turn) -> Outcome {
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
    drive
        .done(&asked.call, &answer, judged, asked.known.clone())
        .await
}
