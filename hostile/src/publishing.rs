//! What publishers send over HTTP: bearer tokens, headers that go before an event's fields, single events and batches.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, header};
use ingest::accept::api::{MOST_AHEAD, Wishes};
use ingest::batch::{Form, MOST, split};
use ingest::error::{Code, Refusal};
use ingest::tokens::Tokens;
use ring::digest;

use crate::events;
use crate::request::Request;
use crate::webhooks::{NOW, hex, refused};

const TOKEN: &str = "a-token";

/// Only the token's bearer is let in; what is let in is bounded, cut where its events end, and told in a few words where
/// it is wrong.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let hash = hex(digest::digest(&digest::SHA256, TOKEN.as_bytes()).as_ref());
    let tokens = Tokens::read(&format!("ci:{hash}:*")).expect("a token");
    let given = request
        .headers
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes);
    let bearer = given.and_then(|given| {
        let (scheme, token) = given.split_at_checked("bearer ".len())?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then_some(token.trim_ascii())
    });
    match tokens.authenticate(&request.headers) {
        Ok(token) => assert!(bearer == Some(TOKEN.as_bytes()) && token.name() == "ci"),
        Err(why) => {
            let refusal = Refusal::from(why);
            refused(&refusal);
            let code = if bearer.is_some() {
                Code::TokenUnknown
            } else {
                Code::TokenMissing
            };
            assert_eq!(refusal.code, code);
            assert_ne!(bearer, Some(TOKEN.as_bytes()));
        }
    }
    if let Ok(text) = std::str::from_utf8(&request.body) {
        read_tokens(text);
    }

    let token = tokens.iter().next().expect("the token").clone();
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let wishes = match Wishes::read(&request.headers, &token, now) {
        Ok(wishes) => wishes,
        Err(refusal) => {
            assert_eq!(refusal.code, Code::HeaderInvalid);
            return refused(&refusal);
        }
    };
    if let Some(at) = wishes.deliver_at {
        assert!(at > now && at.duration_since(now).is_ok_and(|ahead| ahead <= MOST_AHEAD));
        assert!(at < SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40));
    }
    let idempotency = request
        .headers
        .get("idempotency-key")
        .and_then(|key| key.to_str().ok());
    match wishes.event(&request.body) {
        Ok(event) => {
            events::check(&event);
            if let Some(key) = idempotency {
                assert_eq!(event.id.as_str(), format!("key:ci:{key}"));
            }
            let priority = request
                .headers
                .get("weir-priority")
                .and_then(|p| p.to_str().ok()?.parse::<u8>().ok());
            assert!(priority.is_none_or(|priority| event.priority.get() == priority));
        }
        Err(refusal) => refused(&refusal),
    }
    for form in [Form::Json, Form::Lines, Form::Msgpack] {
        match split(form, &request.body) {
            Ok(pieces) => pieces_of(form, &request.body, &pieces, &wishes),
            Err(refusal) => refused(&refusal),
        }
    }
}

/// Every piece lies in the body, after the piece before it, and nothing but what separates them is between.
fn pieces_of(form: Form, body: &Bytes, pieces: &[Bytes], wishes: &Wishes) {
    assert!(pieces.len() <= MOST);
    let mut end = 0;
    for (at, piece) in pieces.iter().enumerate() {
        let start = (piece.as_ptr() as usize).checked_sub(body.as_ptr() as usize);
        let start = start.expect("a piece of the body");
        assert!(start >= end && start + piece.len() <= body.len() && !piece.is_empty());
        let between = &body[end..start];
        match form {
            Form::Json | Form::Lines => {
                assert!(
                    between
                        .iter()
                        .all(|b| b.is_ascii_whitespace() || b"[,".contains(b)),
                    "{between:?}"
                );
            }
            Form::Msgpack => assert!(between.is_empty() || at == 0 && between.len() <= 5, "{between:?}"),
        }
        end = start + piece.len();
        // Of a large batch some are enough.
        if at < 8 {
            match wishes.batch_event(piece, at) {
                Ok(event) => events::check(&event),
                Err(refusal) => refused(&refusal),
            }
        }
    }
}

/// A list of tokens is read, or told without any text that might be a token.
fn read_tokens(text: &str) {
    match Tokens::read(text) {
        Ok(tokens) => {
            let empty =
                header::HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer "))]);
            assert!(tokens.authenticate(&empty).is_err(), "anybody is let in");
            for token in tokens.iter() {
                assert!((1..=ingest::tokens::MAX_NAME).contains(&token.name().len()));
                assert!(!format!("{token:?}").contains(&hex(&[0xab; 32])));
            }
        }
        Err(why) => assert!(!why.is_empty() && !why.contains(char::is_control), "{why:?}"),
    }
    let secret = "hunter2-6f1c";
    if !text.contains(secret) {
        let why = Tokens::read(&format!("{text},{secret}")).expect_err("no token");
        assert!(!why.contains(secret), "{why}");
    }
}
