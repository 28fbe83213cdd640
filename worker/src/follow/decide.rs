//! From an event that is done to the messages that it owes.

use std::sync::Arc;

use async_nats::HeaderMap;
use rules::{Chain, Decided, Failure, Input, LOOPED};
use serde_json::Value as Json;
use shared::dead_letter::{Attempt, Burial, letter};
use shared::event::{Data, Event};
use shared::failure::Reason;
use shared::subject::{header, headers, without};
use shared::telemetry::propagation;
use shared::wire;
use tokio::sync::Semaphore;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::message::Message;
use super::settings::Book;
use crate::delivery::Delivery;
use crate::pool::Pool;

/// Decisions at a time in one worker: what templates look at takes some hundred times its bytes.
static DECIDING: Semaphore = Semaphore::const_new(2);

/// What an event owes that ended so, of all its rules or of those that a replayed letter names.
pub(super) async fn decide(
    book: &Arc<Book>,
    event: &Event,
    delivery: &Delivery,
    ending: Option<(String, Option<Json>)>,
    pool: &Pool,
) -> Vec<Message> {
    let named = header(delivery.headers(), headers::RULES);
    let concerns = |name: &str| named.is_none_or(|named| named.split(',').any(|of| of == name));
    let rules = book.rules.on(&pool.config.service, event);
    let rules: Vec<_> = rules.into_iter().filter(|rule| concerns(&rule.name)).collect();
    if rules.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
    let chain = Chain::parse(header(delivery.headers(), headers::CHAIN));
    let (hops, service, given) = (book.hops, pool.config.service.clone(), event.clone());
    // On a thread of its own: a template may take milliseconds, and one that panics ends nothing but itself.
    let place = DECIDING.acquire().await;
    let decided = tokio::task::spawn_blocking(move || {
        let _place = place;
        let (code, result) = ending.map_or((None, None), |(code, result)| (Some(code), result));
        rules::decide(
            &rules,
            Input {
                service: &service,
                event: &given,
                code: code.as_deref(),
                result: result.as_ref(),
                chain: &chain,
                hops,
            },
        )
    });
    let decided = decided.await.unwrap_or_else(|error| Decided {
        follow_ups: Vec::new(),
        failures: names
            .into_iter()
            .map(|rule| Failure::of(rule, error.to_string()))
            .collect(),
    });
    messages(decided, event, delivery, pool)
}

fn messages(decided: Decided, event: &Event, delivery: &Delivery, pool: &Pool) -> Vec<Message> {
    let Decided {
        follow_ups,
        mut failures,
    } = decided;
    let trace = trace(delivery);
    let most = pool.client.max_payload();
    let mut made: Vec<Message> = Vec::with_capacity(follow_ups.len());
    for follow_up in follow_ups {
        let rule = follow_up.rule.clone();
        if failures.iter().any(|failure| failure.rule == rule) {
            continue;
        }
        match Message::event(follow_up, &pool.config.service, &event.id, &trace, most) {
            Ok(message) => made.push(message),
            Err(what) => {
                // All of a rule or nothing of it.
                made.retain(|message| message.rule != rule);
                failures.push(Failure::of(rule, what));
            }
        }
    }
    if !failures.is_empty() {
        made.push(buried(&failures, event, delivery, pool));
    }
    made
}

/// The trace that what follows belongs to: that of the span we are in, or else the publisher's.
fn trace(delivery: &Delivery) -> HeaderMap {
    let mut own = HeaderMap::new();
    let span = Span::current();
    if !span.is_disabled() {
        propagation::inject(&span.context(), &mut own);
    }
    if own.is_empty()
        && let Some((context, _)) = propagation::extract(delivery.headers())
    {
        propagation::inject(&context, &mut own);
    }
    own
}

/// The dead letter of rules that failed: the event, whose replay asks these rules again and makes no call.
fn buried(failures: &[Failure], event: &Event, delivery: &Delivery, pool: &Pool) -> Message {
    let service = &pool.config.service;
    for Failure { rule, what, .. } in failures {
        tracing::warn!(%service, id = %event.id, rule, what, "a rule failed");
    }
    let names: Vec<&str> = failures.iter().map(|failure| failure.rule.as_str()).collect();
    let names = names.join(",");
    let looped = failures.iter().find(|failure| failure.code == LOOPED);
    let first = looped.unwrap_or(&failures[0]);
    let others = match failures.len() {
        1 => String::new(),
        all => format!(" (and {} more: {names})", all - 1),
    };
    let detail = format!(
        "rule {}{others} on event {}: {}",
        first.rule, event.id, first.what
    );
    let reason = Reason::new(first.code, detail);
    let mut history = delivery.history();
    history.push(Attempt::now(&reason));
    let refers = header(delivery.headers(), headers::CLAIM).is_some();
    let (payload, mut map) = if refers {
        // Its body goes when the event is acked: the letter holds the event without its data.
        let bare = Event {
            data: Data::None,
            ..event.clone()
        };
        let dropped = [headers::CLAIM, headers::CONTENT_ENCODING];
        (wire::encode(&bare), without(delivery.headers(), &dropped))
    } else {
        (delivery.payload(), without(delivery.headers(), &[]))
    };
    map.insert(headers::RULES, names.as_str());
    let (subject, headers, payload) = letter(Burial {
        service,
        sequence: delivery.sequence,
        subject: delivery.subject(),
        id: &event.id,
        headers: Some(&map),
        payload,
        reason: &reason,
        attempts: delivery.failed_attempts(),
        history: &history,
        accepted: delivery.accepted(),
    });
    Message {
        rule: names,
        subject,
        headers,
        payload,
    }
}
