//! What rules files are taken, and what of the others is told.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use rules::Rules;
use shared::subject::Service;

fn known() -> Vec<Service> {
    ["github", "slack", "http"]
        .map(|name| Service::new(name).unwrap())
        .into()
}

fn problems(text: &str) -> Vec<String> {
    let problems = Rules::read(text, Some(&known())).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

const GOOD: &str = r#"
[[rule]]
name = "tell"
on = { service = "github", types = ["pull_request.*", "push"], source = "github", tenant = "acme" }
when = "data.n > 3 and code == 'http_200'"
each = "data.items"
dedup = "{{ item.id }}"

[rule.emit]
service = "slack"
type = "call"
priority = 9
key = "{{ event.key }}"
tenant = "{{ event.tenant }}"
context = { number = "{{ data.n }}" }

[rule.emit.data]
method = "chat.postMessage"
args = { channel = "C1", text = "{{ item.text | truncate(100) }} ({{ index }})", unfurl = false, n = [1, 2.5] }
"#;

#[test]
fn a_whole_rule_is_read() {
    let rules = Rules::read(GOOD, Some(&known())).unwrap();
    assert_eq!(rules.all().len(), 1);
    assert_eq!((rules.all()[0].name.as_str(), rules.all()[0].line), ("tell", 2));
    assert_eq!(rules.targets().len(), 1);
    assert!(rules.of(&known()[1]).is_empty());
    assert_eq!(Rules::read(GOOD, None), Ok(rules));
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line_and_rule() {
    let told = problems(
        r#"
version = 1

[[rule]]
name = "Bad Name"
on = { service = "jira", types = [], tenat = "x" }
emit = { service = "slack", type = "" }

[[rule]]
name = "second"
wen = "true"
when = "data.a =="
each = "dta.list"
dedup = 5
on = { types = ["a*b", 7, ""], tenant = "not a tenant", source = "" }
[rule.emit]
service = "Slack!"
priority = 11
key = "{{ itm }}"
tenant = "a b"
context = "x"
data = { a = "{{ data.x | sh }}", b = ["{{ data.y }", "{% set x = 1 %}"], big = 99999999999999999999, not = nan }

[[rule]]
[[rule]]
name = "second"
on = { service = "http", types = ["*"] }
emit = { service = "github", type = "call" }
"#,
    );
    for says in [
        "line 2: version is unknown: there are rule",
        "line 5, rule number 1: name must be 1 to 64 of a-z 0-9 -",
        "line 6, rule number 1: on.service is jira, which is not in WEIR_SERVICES: github, slack, http",
        "line 6, rule number 1: on.types must be a list of event types, not empty",
        "line 6, rule number 1: on.tenat is unknown: did you mean tenant?",
        "line 7, rule number 1: emit.type must be 1 to 128 bytes",
        "line 11, rule second: wen is unknown: did you mean when?",
        "line 12, rule second: when syntax error",
        "line 13, rule second: each names dta, which nothing is called",
        "line 14, rule second: dedup must be text",
        "line 15, rule second: on.service is missing: a service of the fleet",
        "line 15, rule second: on.types has \"a*b\": an event type",
        "line 15, rule second: on.types must hold text",
        "line 15, rule second: on.types has \"\"",
        "line 15, rule second: on.tenant must be 1 to 64",
        "line 15, rule second: on.source must be 1 to 64",
        "line 17, rule second: emit.service must be 1 to 32",
        "line 16, rule second: emit.type is missing",
        "line 18, rule second: emit.priority must be a whole number from 1 to 10",
        "line 19, rule second: emit.key names itm",
        "line 20, rule second: emit.tenant must be 1 to 64",
        "line 21, rule second: emit.context must be a table",
        "line 22, rule second: emit.data.a has the filter sh: there are base64",
        "line 22, rule second: emit.data.b[0] has no }} that ends it",
        "line 22, rule second: emit.data.b[1] has the statement set",
        "line 22, rule second: emit.data.big is no number of 64 bits",
        "line 22, rule second: emit.data.not is no number that JSON has",
        "line 24, rule number 3: name is missing",
        "line 24, rule number 3: on is missing: which events",
        "line 24, rule number 3: emit is missing: what it emits",
    ] {
        assert!(
            told.iter().any(|line| line.starts_with(says)),
            "{says}\n{told:#?}"
        );
    }
    assert_eq!(told.len(), 30, "{told:#?}");
}

#[test]
fn a_single_equals_sign_is_told_apart_from_two() {
    let read = |when: &str| {
        let rule = format!("name = 'one'\nwhen = {when:?}\non = {{ service = 'http', types = ['a'] }}");
        let emit = "emit = { service = 'slack', type = 'b' }";
        Rules::read(&format!("[[rule]]\n{rule}\n{emit}\n"), Some(&known()))
    };
    let told = read("data.action = 'opened'").unwrap_err();
    let told: Vec<_> = told.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["line 3, rule one: when has a single =, which compares nothing: write =="]
    );
    for good in [
        "data.a == 'b=c' and data.b >= 1 and data.c <= 2 and data.d != 3",
        "data.x | default(value='-', boolean=true) == '-'",
        "(data.x | default(value='-')) is eq('=')",
        "data.list | map(attribute='name') | first == data['a=b']",
    ] {
        assert!(read(good).is_ok(), "{good}: {:?}", read(good));
    }
}

#[test]
fn names_are_unique() {
    let rule = |name: &str| {
        format!(
            "[[rule]]\nname = {name:?}\non = {{ service = 'http', types = ['a'] }}\nemit = {{ service = 'slack', type = 'b' }}\n"
        )
    };
    let told = problems(&(rule("one") + &rule("two") + &rule("one")));
    assert_eq!(told, ["line 9, rule one: name stands in line 1 as well"]);
}

#[test]
fn what_is_no_rules_file_is_refused() {
    for (text, says) in [
        ("", "line 1: has no [[rule]]"),
        ("[[rule]", "line 1: is no TOML"),
        ("rule = 5", "line 1: rule is no list"),
        ("rule = [5]", "line 1, rule number 1: is no table"),
        ("a = 1\na = 2", "line 2: is no TOML"),
        ("rule = [\u{0}]", "is no TOML"),
    ] {
        let told = problems(text);
        assert!(told.iter().any(|line| line.contains(says)), "{text}: {told:?}");
    }
    let many = "[[rule]]\n".repeat(rules::MAX_RULES + 1);
    assert_eq!(problems(&many), ["line 1: has 501 rules, more than 500"]);
    assert!(!problems(&format!("x = {}1{}", "[".repeat(10_000), "]".repeat(10_000))).is_empty());
}

#[test]
fn a_rule_that_sets_itself_off_for_ever_is_refused() {
    let rule = |name: &str, on: &str, more: &str, to: &str, kind: &str| {
        format!(
            "[[rule]]\nname = '{name}'\non = {{ service = '{on}', types = ['a*'] }}\n{more}\nemit = {{ service = '{to}', type = '{kind}' }}\n"
        )
    };
    assert_eq!(
        problems(&rule("one", "http", "", "http", "again")),
        [
            "line 1, rule one: emits what sets it off again, without a condition and for ever: one -> one; say when"
        ]
    );
    let three = rule("one", "http", "", "slack", "a")
        + &rule("two", "slack", "", "github", "a")
        + &rule("three", "github", "", "http", "a")
        + &rule("aside", "slack", "", "github", "b");
    let told = problems(&three);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("one -> two -> three -> one"), "{told:#?}");
    for good in [
        rule("one", "http", "", "http", "b"),
        rule("one", "http", "when = 'data.more'", "http", "a"),
        rule("one", "http", "each = 'data.list'", "http", "a"),
        rule("one", "http", "", "http", "{{ data.next }}"),
        rule("one", "http", "", "slack", "a") + &rule("two", "slack", "when = 'false'", "http", "a"),
    ] {
        assert!(Rules::read(&good, Some(&known())).is_ok(), "{good}");
    }
}
