//! What follows from events: the same decision always, bounded whatever the event holds.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::HashSet;

use rules::{Chain, Decided, FAILED, HOPS, Input, LOOPED, MAX_DATA, MAX_EACH, MAX_INPUT, MAX_VALUES, Rules};
use serde_json::{Value, json};
use shared::event::{Data, Event, EventId, Extra, Key, Priority, Tenant};
use shared::subject::Service;

fn rules(text: &str) -> Rules {
    Rules::read(text, None).unwrap()
}

/// One rule on the service `http`, with these lines in it and this data.
fn one(lines: &str, data: &str) -> Rules {
    rules(&format!(
        "[[rule]]\nname = 'tell'\non = {{ service = 'http', types = ['*'] }}\n{lines}\n\
        [rule.emit]\nservice = 'slack'\ntype = 'call'\ndata = {data}\n"
    ))
}

fn event(data: &Value) -> Event {
    let mut extra = Extra::default();
    extra
        .push_json("context", &json!({"repository": "octo/cat"}))
        .unwrap();
    Event {
        source: Some("github".into()),
        priority: Priority::new(7).unwrap(),
        key: Some(Key::new("k").unwrap()),
        tenant: Some(Tenant::new("acme").unwrap()),
        data: Data::json(data.to_string()),
        extra,
        ..Event::new(EventId::new("http:1").unwrap(), "done")
    }
}

fn decide(rules: &Rules, event: &Event) -> Decided {
    decide_after(rules, event, &Chain::default())
}

fn decide_after(rules: &Rules, event: &Event, chain: &Chain) -> Decided {
    let result = json!({"text": "Looks good.", "cost_nano": 7});
    let service = Service::new("http").unwrap();
    rules.decide(Input {
        service: &service,
        event,
        code: Some("http_200"),
        result: Some(&result),
        chain,
        hops: HOPS,
    })
}

fn data(decided: &Decided) -> Vec<Value> {
    assert_eq!(decided.failures, []);
    let data = decided
        .follow_ups
        .iter()
        .map(|follow_up| follow_up.event.data.to_json().unwrap());
    data.map(Option::unwrap_or_default).collect()
}

fn failure(decided: &Decided) -> &str {
    assert_eq!(decided.follow_ups, []);
    assert_eq!(decided.failures.len(), 1, "{decided:?}");
    &decided.failures[0].what
}

#[test]
fn an_event_that_follows_is_made_of_all_that_is_known() {
    let rules = rules(
        r#"
[[rule]]
name = "tell"
on = { service = "http", types = ["do*"], source = "github", tenant = "acme" }
when = "code == 'http_200' and result.cost_nano < 10"
[rule.emit]
service = "slack"
type = "say.{{ event.type }}"
priority = "{{ event.priority + 1 }}"
key = "{{ context.repository }}#{{ data.n }}"
data = { text = "{{ result.text }} ({{ event.source }})", n = "{{ data.n }}", deep = [{ all = "{{ data }}" }], fixed = 1 }
"#,
    );
    let decided = decide(&rules, &event(&json!({"n": 5})));
    assert_eq!(
        data(&decided),
        [json!({"text": "Looks good. (github)", "n": 5, "deep": [{"all": {"n": 5}}], "fixed": 1})]
    );
    let made = &decided.follow_ups[0];
    assert_eq!((made.rule.as_str(), made.service.as_str()), ("tell", "slack"));
    assert_eq!(made.chain.to_string(), "tell");
    let made = &made.event;
    assert_eq!(made.kind, "say.done");
    assert_eq!(made.priority.get(), 8);
    assert_eq!(made.source.as_deref(), Some("rules"));
    assert_eq!(made.key.as_ref().map(Key::as_str), Some("octo/cat#5"));
    assert_eq!(
        made.tenant.as_ref().map(Tenant::as_str),
        Some("acme"),
        "the parent's"
    );
    assert_eq!(
        made.extra.json("context"),
        Ok(Some(json!({"repository": "octo/cat"}))),
        "the parent's"
    );
    assert!(made.id.as_str().starts_with("tell:"), "{}", made.id);
}

#[test]
fn what_a_rule_does_not_concern_it_does_not_see() {
    let rules = |on: &str| {
        self::rules(&format!(
            "[[rule]]\nname = 'tell'\non = {{ service = 'http', {on} }}\nemit = {{ service = 'slack', type = 'x', data = '{{{{ data.absent }}}}' }}"
        ))
    };
    for (on, concerns) in [
        ("types = ['done']", true),
        ("types = ['other', 'do*']", true),
        ("types = ['*'], tenant = 'acme', source = 'github'", true),
        ("types = ['don']", false),
        ("types = ['done.*']", false),
        ("types = ['done'], tenant = 'other'", false),
        ("types = ['done'], source = 'rules'", false),
    ] {
        let decided = decide(&rules(on), &event(&json!({})));
        assert_eq!(!decided.failures.is_empty(), concerns, "{on}");
    }
    let elsewhere =
        self::rules("[[rule]]\nname='a'\non={service='slack',types=['*']}\nemit={service='http',type='x'}");
    assert_eq!(decide(&elsewhere, &event(&json!({}))), Decided::default());
}

#[test]
fn a_condition_is_true_or_false_or_a_failure() {
    let with = |when: &str| one(&format!("when = \"{when}\""), "1");
    let event = event(&json!({"n": 5, "list": [], "text": "false"}));
    assert_eq!(data(&decide(&with("data.n == 5"), &event)).len(), 1);
    assert_eq!(data(&decide(&with("data.n == 6"), &event)).len(), 0);
    assert_eq!(
        data(&decide(
            &with("data.absent is defined and data.absent == 1"),
            &event
        ))
        .len(),
        0
    );
    for (when, says) in [
        ("data.absent", "when: undefined value"),
        ("data.n", "when: gives a number, must give true or false"),
        ("data.text", "when: gives a string"),
        ("data.list", "when: gives a sequence"),
        ("data.absent.more == 1", "when: undefined value"),
    ] {
        let decided = decide(&with(when), &event);
        assert!(failure(&decided).contains(says), "{when}: {decided:?}");
    }
}

#[test]
fn each_item_gives_an_event_and_more_than_the_bound_gives_none() {
    let rules = one("each = 'data.items'", "\"{{ index }}:{{ item.name }}\"");
    let items =
        |count: usize| event(&json!({"items": (0..count).map(|n| json!({"name": n})).collect::<Vec<_>>()}));
    assert_eq!(data(&decide(&rules, &items(3))), ["0:0", "1:1", "2:2"]);
    assert_eq!(data(&decide(&rules, &items(0))).len(), 0);
    assert_eq!(data(&decide(&rules, &items(MAX_EACH))).len(), MAX_EACH);
    assert_eq!(
        failure(&decide(&rules, &items(MAX_EACH + 1))),
        "each: gives more than 100 items"
    );
    // All of a rule or none: the second item fails.
    let half = event(&json!({"items": [{"name": 1}, {}]}));
    assert_eq!(
        failure(&decide(&rules, &half)),
        "emit.data of item 1: undefined value: `item.name` is undefined"
    );
    for (list, says) in [
        (json!("text"), "each: gives a string, must give a list"),
        (json!({"a": 1}), "each: gives a map, must give a list"),
        (json!(null), "each: gives a none, must give a list"),
    ] {
        assert_eq!(failure(&decide(&rules, &event(&json!({"items": list})))), says);
    }
}

#[test]
fn a_rule_that_fails_holds_up_no_other() {
    let both = rules(
        "[[rule]]\nname='bad'\non={service='http',types=['*']}\nemit={service='slack',type='x',data={a=['{{ data.absent }}']}}\n\
        [[rule]]\nname='good'\non={service='http',types=['*']}\nemit={service='slack',type='x'}",
    );
    let decided = decide(&both, &event(&json!({})));
    assert_eq!(decided.follow_ups.len(), 1);
    assert_eq!(decided.failures[0].rule, "bad");
    assert_eq!(decided.failures[0].code, FAILED);
    assert_eq!(
        decided.failures[0].what,
        "emit.data.a[0]: undefined value: `data.absent` is undefined"
    );
}

#[test]
fn data_that_templates_cannot_see_is_a_failure_only_of_rules_that_look_at_it() {
    let looks = one("", "'{{ data }}'");
    let aside = one("", "'{{ event.id }}'");
    let broken = Event {
        data: Data::json("{broken"),
        ..event(&json!({}))
    };
    assert!(failure(&decide(&looks, &broken)).starts_with("data is no JSON"));
    assert_eq!(data(&decide(&aside, &broken)).len(), 1);
    let large = event(&json!("x".repeat(MAX_INPUT)));
    assert!(failure(&decide(&looks, &large)).contains("larger than the 1048576 bytes"));
    assert_eq!(data(&decide(&aside, &large)).len(), 1);
    let text = Event {
        data: Data::Blob {
            content_type: "text/plain".into(),
            bytes: "x".into(),
        },
        ..event(&json!({}))
    };
    assert_eq!(
        failure(&decide(&looks, &text)),
        "emit.data: undefined value: `data` is undefined"
    );
    let fits = event(&json!("x".repeat(MAX_DATA)));
    assert!(failure(&decide(&looks, &fits)).contains("gives more than 524288 bytes"));
    let many = rules(
        "[[rule]]\nname='tell'\non={service='http',types=['*']}\neach='[1,2,3,4,5,6,7,8,9]'\n\
        emit={service='slack',type='x',data='{{ data }}'}",
    );
    let half = event(&json!("x".repeat(MAX_DATA - 10)));
    assert!(
        failure(&decide(&many, &half))
            .contains("all that follows from this event has more than 4194304 bytes")
    );
}

#[test]
fn what_an_event_cannot_have_is_a_failure_that_names_the_field() {
    for (lines, says) in [
        ("type = '{{ data.long }}'", "emit.type: must be 1 to 128 bytes"),
        ("type = '{{ data.none }}'", "emit.type: must be 1 to 128 bytes"),
        (
            "type = 'x'\nkey = '{{ data.long }}'",
            "emit.key: must be 1 to 256 bytes",
        ),
        ("type = 'x'\nkey = '{{ data.lines }}'", "emit.key: must be"),
        (
            "type = 'x'\ntenant = '{{ data.lines }}'",
            "emit.tenant: must be 1 to 64",
        ),
        (
            "type = 'x'\npriority = '{{ data.n }}'",
            "emit.priority: must be a whole number from 1 to 10",
        ),
        (
            "type = 'x'\npriority = '{{ data.long }}'",
            "emit.priority: gives more than 64 bytes",
        ),
        (
            "type = 'x'\ncontext = { a = '{{ data.larger }}' }",
            "emit.context.a: gives more than 16384 bytes",
        ),
        (
            "type = 'x'\nkey = '{{ data.list }}'",
            "emit.key: gives a list, must give text",
        ),
    ] {
        let text = format!(
            "[[rule]]\nname='tell'\non={{service='http',types=['*']}}\n[rule.emit]\nservice='slack'\n{lines}\n"
        );
        let event = event(&json!({
            "n": 11, "none": null, "long": "x".repeat(300), "larger": "x".repeat(17_000), "lines": "a\nb", "list": [1]
        }));
        let decided = decide(&rules(&text), &event);
        assert!(failure(&decided).starts_with(says), "{lines}: {decided:?}");
    }
    let none = "[[rule]]\nname='tell'\non={service='http',types=['*']}\n[rule.emit]\nservice='slack'\ntype='x'\n\
        key='{{ data.none }}'\ntenant='{{ data.none }}'\ncontext = {}\n";
    let decided = decide(&rules(none), &event(&json!({"none": null})));
    let made = &decided.follow_ups[0].event;
    assert_eq!((&made.key, &made.tenant, made.extra.len()), (&None, &None, 0));
}

#[test]
fn a_chain_that_is_too_long_ends_and_tells_itself() {
    let rules = one("", "1");
    let mut chain = Chain::default();
    for _ in 0..HOPS {
        let decided = decide_after(&rules, &event(&json!({})), &chain);
        chain = decided.follow_ups[0].chain.clone();
    }
    let decided = decide_after(&rules, &event(&json!({})), &chain);
    assert_eq!(decided.failures[0].code, LOOPED);
    let what = failure(&decided);
    assert!(
        what.contains("9 rules after each other, and at most 8 may be: tell,tell,"),
        "{what}"
    );
    assert_eq!(Chain::parse(Some(&chain.to_string())), chain);
    // One that somebody made up is too long as well, and no longer than that.
    let endless = Chain::parse(Some(&"x,".repeat(1_000_000)));
    assert!(endless.hops() > HOPS && endless.to_string().len() < 1000);
    assert!(
        !decide_after(&rules, &event(&json!({})), &endless)
            .failures
            .is_empty()
    );
    let quiet = one("when = 'false'", "1");
    assert_eq!(
        decide_after(&quiet, &event(&json!({})), &chain),
        Decided::default(),
        "what emits nothing is no loop"
    );
}

#[test]
fn ids_are_told_by_parent_rule_and_place_or_by_what_the_rule_says() {
    let ids = |rules: &Rules, event: &Event| -> Vec<String> {
        let made = decide(rules, event).follow_ups;
        made.iter().map(|made| made.event.id.to_string()).collect()
    };
    let (a, b) = (
        event(&json!({"sha": "f00"})),
        Event {
            id: EventId::new("http:2").unwrap(),
            ..event(&json!({"sha": "f00"}))
        },
    );
    let plain = one("each = '[1, 2]'", "1");
    let all: HashSet<String> = ids(&plain, &a).into_iter().chain(ids(&plain, &b)).collect();
    assert_eq!(all.len(), 4);
    assert_eq!(ids(&plain, &a), ids(&plain, &a));
    assert_eq!(
        ids(&one("", "1"), &a),
        ["tell:9a46a3e06be3b82faf2102db391b4808"],
        "the same in every version"
    );
    let said = one("dedup = '{{ data.sha }}'", "1");
    assert_eq!(ids(&said, &a), ids(&said, &b), "the same for both parents");
    let other = Event { tenant: None, ..b };
    assert_ne!(ids(&said, &a), ids(&said, &other), "never across tenants");
    let nothing = one("dedup = '{{ event.time }}'", "1");
    assert_eq!(failure(&decide(&nothing, &a)), "dedup: gives nothing");
}

#[test]
fn many_small_values_and_long_lists_to_look_through_are_told_and_not_worked_off() {
    let many: Vec<Value> = (0..MAX_VALUES).map(|_| json!(0)).collect();
    let rules = one("", "{ n = \"{{ data | length }}\" }");
    let decided = decide(&rules, &event(&json!(many[2..])));
    assert_eq!(data(&decided), [json!({"n": MAX_VALUES - 2})]);
    let decided = decide(&rules, &event(&json!(many)));
    assert!(
        failure(&decided).contains("more than the 50000 values"),
        "{decided:?}"
    );

    // A step of the engine for each item, and in it one for each of the others.
    let rules = one(
        "each = \"data.a | reject('in', data.b)\"",
        "{ n = \"{{ item }}\" }",
    );
    let few = json!({"a": [1, 2, 3], "b": (2..1_002).collect::<Vec<_>>()});
    assert_eq!(data(&decide(&rules, &event(&few))), [json!({"n": 1})]);
    let long = json!({"a": [1], "b": (2..1_003).collect::<Vec<_>>()});
    let decided = decide(&rules, &event(&long));
    assert!(failure(&decided).contains("at most 1000 items"), "{decided:?}");
}
