//! In which way models are asked: one, all, or one again and again.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::failure::Failure;

use super::ask::{Ask, Join, Message, Mode, Request, Role};
use super::desk::{Desk, most_telling};
use super::kept::Kept;
use super::model::Model;
use super::money::OVER;
use super::work::Work;

/// The word with which a critic ends the rounds.
const GOOD: &str = "GOOD";
const CRITIC: &str = "You examine an answer to a question. If nothing in it need be changed, reply with the one word \
                      GOOD. Otherwise list what is wrong, missing or unclear in it, briefly, and nothing else.";
const REVISE: &str = "Somebody examined your answer and says this of it. Write the whole answer anew, better where they \
                      are right. Say nothing of the examination.";

/// Answers the event's question. The result as it is told.
pub(super) async fn answer(desk: &Arc<Desk>, work: &Arc<Work>, ask: &Ask) -> Result<Value, Failure> {
    let models = models(desk, &ask.models)?;
    match ask.mode {
        Mode::One => {
            let kept = desk.answer(work, "answer", &ask.request, &models).await?;
            Ok(told(&kept, ask))
        }
        Mode::All => {
            let _place = place(desk).await?;
            all(desk, work, ask, &models).await
        }
        Mode::Refine => {
            let _place = place(desk).await?;
            refine(desk, work, ask, &models).await
        }
    }
}

/// Those of these names, or all in the service's order.
fn models(desk: &Desk, names: &[String]) -> Result<Vec<Arc<Model>>, Failure> {
    if names.is_empty() {
        return Ok(desk.models.clone());
    }
    names.iter().map(|name| model(desk, name)).collect()
}

fn model(desk: &Desk, name: &str) -> Result<Arc<Model>, Failure> {
    let found = desk.models.iter().find(|model| model.name == name);
    found.map(Arc::clone).ok_or_else(|| {
        let known: Vec<_> = desk.models.iter().map(|model| model.name.as_str()).collect();
        let detail = format!(
            "data names the model {name:?}: must be one of {}",
            known.join(", ")
        );
        Failure::permanent("question", detail)
    })
}

async fn place(desk: &Desk) -> Result<tokio::sync::SemaphorePermit<'_>, Failure> {
    let gone = |_| Failure::transient("stopping", "the worker is stopping");
    desk.orchestrations.acquire().await.map_err(gone)
}

async fn all(desk: &Arc<Desk>, work: &Arc<Work>, ask: &Ask, models: &[Arc<Model>]) -> Result<Value, Failure> {
    let asked = models.iter().map(|model| async move {
        let step = format!("all.{}", model.name);
        desk.answer(work, &step, &ask.request, std::slice::from_ref(model))
            .await
    });
    let ends = join_all(asked).await;
    let need = ask.need.unwrap_or(models.len()).min(models.len());
    let answered = ends.iter().filter(|end| end.is_ok()).count();
    let hopeless = ends
        .iter()
        .filter(|end| matches!(end, Err(Failure::Permanent { .. })))
        .count();
    if answered < need {
        let failures: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
        let permanent = |failure: &&Failure| matches!(failure, Failure::Permanent { .. });
        return Err(match failures.iter().find(permanent) {
            Some(failure) if models.len() - hopeless < need => failure.clone(),
            _ => most_telling(
                failures
                    .into_iter()
                    .filter(|failure| !permanent(&failure))
                    .collect(),
            ),
        });
    }
    let list: Vec<Value> = models
        .iter()
        .zip(&ends)
        .map(|(model, end)| listed(model, end, ask))
        .collect();
    let answers: Vec<&Kept> = ends.iter().flatten().collect();
    match &ask.join {
        Join::List => Ok(json!({"answers": list})),
        Join::By {
            model: name,
            instruction,
        } => {
            let by = match name {
                Some(name) => vec![model(desk, name)?],
                None => desk.models.clone(),
            };
            let joined = desk
                .answer(work, "join", &joining(ask, instruction, &answers), &by)
                .await?;
            let mut result = told(&joined, ask);
            result["answers"] = json!(list);
            Ok(result)
        }
    }
}

fn listed(model: &Model, end: &Result<Kept, Failure>, ask: &Ask) -> Value {
    match end {
        Ok(kept) => told(kept, ask),
        Err(failure) => json!({"model": model.name, "error": failure.to_string()}),
    }
}

/// The question by which answers become one.
fn joining(ask: &Ask, instruction: &str, answers: &[&Kept]) -> Request {
    let question = format!("Question:\n{}", conversation(ask));
    let answers = (1..).zip(answers);
    let answers = answers.map(|(number, kept): (u32, _)| format!("Answer {number}:\n{}", kept.text));
    let content = [question]
        .into_iter()
        .chain(answers)
        .collect::<Vec<_>>()
        .join("\n\n");
    Request {
        system: Some(instruction.to_owned()),
        messages: vec![Message {
            role: Role::User,
            content,
        }],
        stop: Vec::new(),
        enough: None,
        ..ask.request.clone()
    }
}

async fn refine(
    desk: &Arc<Desk>,
    work: &Arc<Work>,
    ask: &Ask,
    models: &[Arc<Model>],
) -> Result<Value, Failure> {
    let (writers, critics) = match (ask.models.len(), models) {
        (2.., [writer, critic, ..]) => (std::slice::from_ref(writer), std::slice::from_ref(critic)),
        _ => (models, models),
    };
    let mut kept = desk.answer(work, "answer.0", &ask.request, writers).await?;
    let (mut rounds, mut ended) = (0, "rounds");
    for round in 1..=ask.rounds {
        let next = revised(desk, work, ask, &kept, round, (writers, critics)).await;
        match next {
            Ok(Some(better)) if better.text != kept.text => (kept, rounds) = (better, round),
            Ok(Some(_)) => ended = "unchanged",
            Ok(None) => ended = "good",
            // What there is, is an answer.
            Err(failure) if failure.reason().code == OVER && failure.class() == "permanent" => {
                ended = "budget";
            }
            Err(failure) => return Err(failure),
        }
        if ended != "rounds" {
            break;
        }
    }
    let mut result = told(&kept, ask);
    result["rounds"] = json!(rounds);
    result["ended"] = json!(ended);
    Ok(result)
}

/// The answer after one more round; `None` when the critic is content.
async fn revised(
    desk: &Arc<Desk>,
    work: &Arc<Work>,
    ask: &Ask,
    kept: &Kept,
    round: u32,
    (writers, critics): (&[Arc<Model>], &[Arc<Model>]),
) -> Result<Option<Kept>, Failure> {
    let content = format!("Question:\n{}\n\nAnswer:\n{}", conversation(ask), kept.text);
    let examine = Request {
        system: Some(CRITIC.into()),
        messages: vec![Message {
            role: Role::User,
            content,
        }],
        json: None,
        stop: Vec::new(),
        enough: None,
        stream: false,
        ..ask.request.clone()
    };
    let critique = desk
        .answer(work, &format!("critique.{round}"), &examine, critics)
        .await?;
    let word: String = critique
        .text
        .chars()
        .filter(|c| c.is_alphabetic())
        .take(GOOD.len() + 1)
        .collect();
    if word.eq_ignore_ascii_case(GOOD) {
        return Ok(None);
    }
    let mut revise = ask.request.clone();
    revise.messages.push(Message {
        role: Role::Assistant,
        // No maker takes an empty one.
        content: if kept.text.trim().is_empty() {
            "…".into()
        } else {
            kept.text.clone()
        },
    });
    revise.messages.push(Message {
        role: Role::User,
        content: format!("{REVISE}\n\n{}", critique.text),
    });
    desk.answer(work, &format!("answer.{round}"), &revise, writers)
        .await
        .map(Some)
}

/// The question as text for another model.
fn conversation(ask: &Ask) -> String {
    let system = ask.request.system.iter().cloned();
    let said = ask.request.messages.iter().map(|message| match message.role {
        Role::User => message.content.clone(),
        Role::Assistant => format!("(answered:) {}", message.content),
    });
    system.chain(said).collect::<Vec<_>>().join("\n\n")
}

/// An answer as it is told.
fn told(kept: &Kept, ask: &Ask) -> Value {
    let mut told = json!({
        "text": kept.text,
        "model": kept.model,
        "exact_model": kept.exact,
        "finish": kept.finish,
        "cost_nano": kept.cost,
        "reused": kept.reused,
    });
    if ask.request.json.is_some() {
        told["json"] = serde_json::from_str(kept.text.trim()).unwrap_or_default();
    }
    told
}
