//! What must hold of every decision, whatever stands in rules and in events.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::HashSet;

use proptest::prelude::*;
use rules::{Chain, Decided, HOPS, Input, MAX_DATA, Rules};
use serde_json::{Value, json};
use shared::event::{Data, Event, EventId, Extra};
use shared::subject::Service;

/// One rule on the service `http`, with these lines in it and this data.
fn one(lines: &str, data: &str) -> Rules {
    let text = format!(
        "[[rule]]\nname = 'tell'\non = {{ service = 'http', types = ['*'] }}\n{lines}\n\
        [rule.emit]\nservice = 'slack'\ntype = 'call'\ndata = {data}\n"
    );
    Rules::read(&text, None).unwrap()
}

fn event(data: &Value) -> Event {
    Event {
        data: Data::json(data.to_string()),
        ..Event::new(EventId::new("http:1").unwrap(), "done")
    }
}

fn decide(rules: &Rules, event: &Event) -> Decided {
    rules.decide(Input {
        service: &Service::new("http").unwrap(),
        event,
        code: Some("http_200"),
        result: None,
        chain: &Chain::default(),
        hops: HOPS,
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        Just(Value::from("{{ data }}{% for x in data %}")),
        Just(Value::from("x".repeat(70_000))),
    ];
    leaf.prop_recursive(8, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,3}|\\PC{1,4}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_template() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("{{ data }}".to_owned()),
        Just("{{ data | json }}".to_owned()),
        Just("{% for a in data %}{{ a }}{% endfor %}".to_owned()),
        Just("{% for a in data %}{% for b in data %}{{ data }}{% endfor %}{% endfor %}".to_owned()),
        Just("{{ [data, data] + [data, data] }}".to_owned()),
        Just("{{ data | join(data) }}".to_owned()),
        Just("{{ data | map(attribute='a') | sort | first }}".to_owned()),
        Just("{{ data.a.b[0] | truncate(10) }}".to_owned()),
        Just("{% if data %}".to_owned()),
        Just("{% endif %}".to_owned()),
        "[{}%#|a-z'\"+*~() ]{0,12}",
        ".{0,8}",
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_stands_in_templates_and_events_the_decision_is_one_and_bounded(
        template in any_template(), data in any_json(), context in any_json(),
    ) {
        let file = format!(
            "[[rule]]\nname = 'tell'\non = {{ service = 'http', types = ['*'] }}\n[rule.emit]\nservice = 'slack'\n\
            type = 'x'\ndata = {{ a = {} }}\n",
            toml_text(&template),
        );
        let Ok(rules) = Rules::read(&file, None) else { return Ok(()) };
        let mut event = event(&data);
        event.extra = Extra::default();
        let _ = event.extra.push_json("context", &context);
        let decided = decide(&rules, &event);
        prop_assert_eq!(&decided, &decide(&rules, &event));
        prop_assert_eq!(decided.follow_ups.len() + decided.failures.len(), 1);
        for made in &decided.follow_ups {
            let json = made.event.data.to_json().unwrap().unwrap();
            prop_assert!(json.to_string().len() <= MAX_DATA);
        }
        for failure in &decided.failures {
            prop_assert!(!failure.what.is_empty());
        }
    }

    #[test]
    fn different_decisions_have_different_ids(
        parents in prop::collection::hash_set("[!-~]{1,256}", 1..20), said in prop::collection::hash_set("\\PC{1,20}", 1..20),
    ) {
        let (plain, named) = (one("each = '[1, 2, 3]'", "1"), one("dedup = '{{ data }}'", "1"));
        let mut ids = HashSet::new();
        for parent in &parents {
            let event = Event { id: EventId::new(parent.as_str()).unwrap(), ..event(&json!("")) };
            ids.extend(decide(&plain, &event).follow_ups.into_iter().map(|made| made.event.id));
        }
        for said in &said {
            ids.extend(decide(&named, &event(&json!(said))).follow_ups.into_iter().map(|made| made.event.id));
        }
        prop_assert_eq!(ids.len(), parents.len() * 3 + said.len());
    }
}

/// A text as TOML writes it.
fn toml_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => out.push(c),
        }
    }
    out + "\""
}
