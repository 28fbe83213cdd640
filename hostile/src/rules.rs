//! Rules files, and events that rules decide on.
//!
//! An input is a rules file; what stands behind a line `===` is the data of the event.

use bytes::Bytes;
use rules::{Chain, HOPS, Input, MAX_DATA, MAX_NAME, Rules};
use shared::event::{Data, Event, EventId};
use shared::subject::Service;

use crate::bits;

/// Between the rules and the event.
const BETWEEN: &str = "\n===\n";

/// A file is taken, or each problem is one short line with its place; and whatever it says, a decision is the same each
/// time and within its bounds.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (file, data) = text.split_once(BETWEEN).unwrap_or((text, "null"));
    let rules = match Rules::read(file, None) {
        Ok(rules) => rules,
        Err(problems) => {
            assert!(!problems.is_empty());
            let lines = file.split('\n').count();
            for problem in problems {
                assert!((1..=lines).contains(&problem.line), "{problem}");
                bits::told(&problem.to_string(), 2_600);
            }
            return;
        }
    };
    assert!(!rules.is_empty());
    for rule in rules.all() {
        bits::told(&rule.name, MAX_NAME);
    }
    decided(&rules, data);
}

fn decided(rules: &Rules, data: &str) {
    for service in ["github", "agent", "http"] {
        let service = Service::new(service).expect("a service");
        for kind in ["call", "pull_request.opened", "review.question"] {
            let event = Event {
                data: Data::json(Bytes::copy_from_slice(data.as_bytes())),
                ..Event::new(EventId::new("1").expect("an id"), kind)
            };
            let input = Input {
                service: &service,
                event: &event,
                code: Some("ok"),
                result: None,
                chain: &Chain::default(),
                hops: HOPS,
            };
            let decided = rules.decide(input);
            assert_eq!(decided, rules.decide(input));
            for made in &decided.follow_ups {
                let size = match &made.event.data {
                    Data::Blob { bytes, .. } => bytes.len(),
                    Data::Inline(_) | Data::None => 0,
                };
                assert!(size <= MAX_DATA, "{size}");
            }
        }
    }
}
