#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use minijinja::value::Serde;
use serde_json::json;

use super::*;

fn scope() -> Value {
    let seen = json!({
        "event": {"id": "a", "key": null},
        "data": {
            "n": 7, "f": 1.5, "yes": true, "none": null, "text": "one\ntwo\nthree", "word": "über",
            "list": [1, 2, 3], "map": {"a": {"b": "c"}}, "long": "x".repeat(100_000),
            "files": [{"name": "a.rs", "lines": 10}, {"name": "b.py", "lines": 500}],
        },
    });
    Value::from(Serde(&seen))
}

fn fill(source: &str) -> Result<Json, String> {
    Template::read(source, Place::Event)?.fill(&scope(), 64 << 10)
}

#[test]
fn one_place_from_end_to_end_keeps_its_type_and_all_else_is_text() {
    for (source, is) in [
        ("plain", json!("plain")),
        ("", json!("")),
        ("{{ data.n }}", json!(7)),
        ("{{data.f}}", json!(1.5)),
        ("{{- data.yes -}}", json!(true)),
        ("{{ data.none }}", json!(null)),
        ("{{ data.list }}", json!([1, 2, 3])),
        ("{{ data.map }}", json!({"a": {"b": "c"}})),
        ("{{ {'a': {'b': 1}} }}", json!({"a": {"b": 1}})),
        ("{{ '}}' }}", json!("}}")),
        ("{{ data.n + 1 }}", json!(8)),
        ("{{ data.n - 1 if data.yes else 0 }}", json!(6)),
        (" {{ data.n }}", json!(" 7")),
        ("{{ data.n }}{{ data.f }}", json!("71.5")),
        ("{% if data.yes %}y{% else %}n{% endif %}", json!("y")),
        (
            "{% for f in data.files %}{{ loop.index }} {{ f.name }};{% endfor %}",
            json!("1 a.rs;2 b.py;"),
        ),
        ("{# said #}{{ data.n }}", json!("7")),
        ("{{ data.map | json }}", json!(r#"{"a":{"b":"c"}}"#)),
        ("{{ data.text | lines(2) }}", json!("one\ntwo")),
        ("{{ data.text | lines(9) }}", json!("one\ntwo\nthree")),
        ("{{ data.text | lines(0) }}", json!("")),
        ("{{ data.word | truncate(3) }}", json!("üb…")),
        ("{{ data.word | truncate(4) }}", json!("über")),
        ("{{ data.word | base64 }}", json!("w7xiZXI=")),
        ("{{ data.list | join(', ') }}", json!("1, 2, 3")),
        ("{{ data.text | replace('\n', ' ') }}", json!("one two three")),
        ("{{ data.text | split('\n') | last }}", json!("three")),
        ("{{ data.text | split | length }}", json!(3)),
        ("{{ data.absent | default('d') }}", json!("d")),
        ("{{ data.absent is defined }}", json!(false)),
        ("{{ data.word is not none and data.n is number }}", json!(true)),
        (
            "{{ data.files | selectattr('lines', 'gt', 100) | map(attribute='name') | join(' ') }}",
            json!("b.py"),
        ),
        (
            "{{ (data.files | sort(attribute='lines', reverse=true))[:1] | map(attribute='name') | first }}",
            json!("b.py"),
        ),
        ("{{ event.key }}", json!(null)),
        ("{{ data.map.a.b[:1] | upper }}", json!("C")),
    ] {
        assert_eq!(fill(source), Ok(is), "{source}");
    }
}

#[test]
fn what_is_not_there_is_an_error_and_not_nothing() {
    for source in [
        "{{ data.absent }}",
        "a {{ data.absent }}",
        "{{ data.absent.deeper }}",
        "{{ data.absent | upper }}",
        "{{ data.absent | json }}",
        "{{ data.absent | join }}",
        "{{ data.absent | truncate(3) }}",
        "{% if data.absent %}x{% endif %}",
        "{% for x in data.absent %}x{% endfor %}",
        "{{ result }}",
        "{{ context.x }}",
    ] {
        let error = fill(source).unwrap_err();
        assert!(error.contains("undefined"), "{source}: {error}");
    }
}

#[test]
fn what_may_not_stand_in_a_template_is_refused_when_it_is_read() {
    for (source, says) in [
        ("{{ dta.n }}", "names dta"),
        ("{{ item }}", "only in a rule with each"),
        ("{{ data.n", "no }} that ends it"),
        ("{% if data %}", "syntax error"),
        ("{{ data. }}", "syntax error"),
        ("{{ data.n | shell }}", "the filter shell"),
        ("{{ data.n is prime }}", "the test prime"),
        ("{{ data.n is not prime }}", "the test prime"),
        ("{{ range(9) }}", "calls range()"),
        ("{{ data.items() }}", "calls items()"),
        ("{{ (data.n)(1) }}", "calls a value"),
        ("{{ data.a * 9 }}", "multiplies"),
        ("{{ data.a ** 9 }}", "multiplies"),
        (
            "{{ {'a': {'b': 1}} | json | replace('a', 'x' ~ 'y') }}",
            "joins with ~",
        ),
        ("{{ 'it\\'s }}' ~ data.a }}", "joins with ~"),
        (
            "{{ data.a + data.a + data.a + data.a + data.a + data.a }}",
            "more than 4 +",
        ),
        ("{{ data.n = 1 }}", "write =="),
        ("{% if data.n=1 %}{% endif %}", "write =="),
        ("{{ (data.n = 1) and true }}", "write =="),
        ("{{ data.n in [data.n = 1] }}", "write =="),
        ("{{ data.x | default(data.n) = 1 }}", "write =="),
        ("{% set x = 1 %}", "the statement set"),
        ("{%- set x = 1 %}", "the statement set"),
        ("{% include 'x' %}", "the statement include"),
        ("{% macro m() %}{% endmacro %}", "the statement macro"),
        ("{% raw %}{{ x }}{% endraw %}", "the statement raw"),
        ("{% with a = 1 %}{% endwith %}", "the statement with"),
        ("{% filter upper %}a{% endfilter %}", "the statement filter"),
        (
            "{% for x in data recursive %}{{ loop(x) }}{% endfor %}",
            "recursive",
        ),
        ("{% %}", "empty statement"),
        ("{# never", "a comment without its end"),
        (&"{% for x in data %}{% endfor %}".repeat(5), "more than 4 loops"),
        (&"x".repeat(MAX_TEMPLATE + 1), "longer than"),
        (
            &format!("{{{{ {}1{} }}}}", "(".repeat(400), ")".repeat(400)),
            "error",
        ),
    ] {
        let error = Template::read(source, Place::Event).unwrap_err();
        assert!(error.contains(says), "{source:.60}: {error}");
    }
    assert!(Template::read("{{ item.x }} {{ index }}", Place::Item).is_ok());
    assert!(Template::read("{{ data.recursive.is.x }} {{ data['a ~ b * c'] }}", Place::Event).is_ok());
}

#[test]
fn what_runs_is_bounded_in_steps_and_in_size() {
    let loops = "{% for a in data.long %}{% for b in data.long %}{% endfor %}{% endfor %}";
    let error = fill(loops).unwrap_err();
    assert!(error.contains("fuel"), "{error}");
    for source in [
        "{{ data.long }}",
        "x{{ data.long }}",
        "{{ data.long | replace('x', 'yy') }}",
        "{% for a in data.list %}{{ data.long }}{% endfor %}",
        "{{ [data.long, data.long] }}",
    ] {
        let error = fill(source).unwrap_err();
        assert!(error.contains("more than 65536 bytes"), "{source}: {error}");
    }
    for source in [
        "{{ data.long | replace('x', data.long) }}",
        "{{ data.word | replace('b', ' ') | split | join(data.long) | replace('x', data.long) }}",
        "{{ ([data.long, data.long] + [data.long, data.long] + [data.long, data.long, data.long, data.long]
            + [data.long, data.long, data.long, data.long]) | json }}",
    ] {
        let error = fill(source).unwrap_err();
        assert!(error.contains("more than 1048576 bytes"), "{source}: {error}");
    }
    let many = fill("{{ data.long | replace('x', 'x ') | split | length }}").unwrap_err();
    assert!(many.contains("more than 10000 parts"), "{many}");
    // The largest that a template can hold at once: all of its + and loops upon each other.
    let most = "{% for a in [data.long + data.long] %}{% for b in [a + a] %}{% for c in [b + b] %}{% for d in [c + c] %}\
        {{ d | length }}{% endfor %}{% endfor %}{% endfor %}{% endfor %}";
    assert_eq!(fill(most), Ok(json!("1600000")));
}

/// The worst that one template can be made to do with the largest input: for people who change a bound.
#[test]
#[ignore = "takes seconds; a measurement"]
#[allow(clippy::print_stdout, reason = "a measurement")]
fn the_worst_template_takes_this_long() {
    let seen = json!({"data": {"s": "x".repeat(MAX_INPUT - 100), "n": vec![0; 200]}});
    let scope = Value::from(Serde(&seen));
    for source in [
        "{% for a in data.n %}{% for b in data.n %}{% if data.s + data.s == 1 %}x{% endif %}{% endfor %}{% endfor %}",
        "{% for c in [data.s + data.s + data.s] %}{% for a in data.n %}{% for b in data.n %}{% if c + c == 1 %}{% endif %}\
            {% endfor %}{% endfor %}{% endfor %}",
        "{% for a in data.n %}{% for b in data.n %}{% if data.s | upper | lower == 1 %}x{% endif %}{% endfor %}{% endfor %}",
        "{% for a in data.n %}{% for b in data.n %}{% if data.s | split('y') | length == 1 %}x{% endif %}{% endfor %}{% endfor %}",
    ] {
        let start = std::time::Instant::now();
        let ended = Template::read(source, Place::Event)
            .unwrap()
            .fill(&scope, 1 << 20);
        println!("{:?} {ended:?} {source:.60}", start.elapsed());
    }
}
