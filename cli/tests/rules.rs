//! `weir rules check` as a process.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A file with these rules: each a name, what it is on, and what it emits.
fn rules(rules: &[(&str, &str, &str)]) -> tempfile::NamedTempFile {
    let rule = |(name, on, emit): &(&str, &str, &str)| {
        format!("[[rule]]\nname = '{name}'\non = {{ {on} }}\nemit = {{ {emit} }}\n")
    };
    file(&rules.iter().map(rule).collect::<String>())
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

fn check(rules: &Path, more: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["rules", "check"]).arg(rules).args(more);
    command.env_remove("WEIR_SERVICES").envs(settings.iter().copied());
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    let told = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

#[test]
fn what_comes_to_nothing_is_warned_of() {
    let on = "service = 'github', types = ['push']";
    let to_slack = "service = 'slack', type = 'call'";
    for (name, on, emit, settings, warned) in [
        ("good", on, to_slack, None, None),
        (
            "tells",
            on,
            "service = 'slack', type = 'tell'",
            None,
            Some("slack does nothing with it; it takes call, respond"),
        ),
        (
            "filled",
            on,
            "service = 'slack', type = '{{ data.x }}'",
            None,
            None,
        ),
        (
            "files",
            on,
            "service = 'drive', type = 'file.put'",
            None,
            Some("it takes call, file.get, file.create, changes"),
        ),
        (
            "hook",
            on,
            "service = 'github', type = 'issues.opened'",
            None,
            None,
        ),
        (
            "hooks",
            on,
            "service = 'github', type = 'comment.create'",
            None,
            Some("it takes call, graphql, "),
        ),
        ("asks", on, "service = 'agent', type = 'whatever'", None, None),
        ("own", on, "service = 'billing', type = 'whatever'", None, None),
        (
            "named",
            on,
            "service = 'chat', type = 'tell'",
            Some(("WEIR_SERVICE_CHAT_HANDLER", "slack")),
            Some("chat does nothing with it"),
        ),
        (
            "other",
            on,
            "service = 'slack', type = 'tell'",
            Some(("WEIR_SERVICE_SLACK_HANDLER", "http")),
            None,
        ),
        (
            "issues",
            "service = 'linear', source = 'linear', types = ['Issue.*', '*']",
            to_slack,
            None,
            None,
        ),
        (
            "issue",
            "service = 'linear', source = 'linear', types = ['issue.create']",
            to_slack,
            None,
            Some("on.types has issue.create, which never comes from linear"),
        ),
        (
            "anyones",
            "service = 'linear', types = ['issue.create']",
            to_slack,
            None,
            None,
        ),
        (
            "pulls",
            "service = 'github', source = 'github', types = ['pull_request', 'pull_request.opened', 'pull*', 'issues.*']",
            to_slack,
            None,
            None,
        ),
        (
            "pull",
            "service = 'github', source = 'github', types = ['pullrequest.opened']",
            to_slack,
            None,
            Some("on.types has pullrequest.opened, which never comes from github"),
        ),
        (
            "starts",
            "service = 'github', source = 'github', types = ['pulls*']",
            to_slack,
            None,
            Some("on.types has pulls*"),
        ),
        (
            "slack",
            "service = 'slack', source = 'slack', types = ['message', 'message.im']",
            to_slack,
            None,
            Some("on.types has message.im"),
        ),
        (
            "merges",
            "service = 'http', source = 'gitlab', types = ['merge_request.open', 'push', 'merge_request.*', '*']",
            to_slack,
            None,
            None,
        ),
        (
            "merge",
            "service = 'http', source = 'gitlab', types = ['Merge Request Hook']",
            to_slack,
            None,
            Some("on.types has Merge Request Hook, which never comes from gitlab"),
        ),
        (
            "stripe",
            "service = 'http', source = 'stripe', types = ['charge.succeeded', 'charge']",
            to_slack,
            None,
            Some("on.types has charge,"),
        ),
        (
            "shop",
            "service = 'http', source = 'shop', types = ['charge']",
            to_slack,
            None,
            None,
        ),
        (
            "shops",
            "service = 'http', source = 'shop', types = ['charge']",
            to_slack,
            Some(("WEIR_SOURCE_SHOP_KIND", "stripe")),
            Some("never comes from shop"),
        ),
        (
            "said",
            "service = 'http', source = 'stripe', types = ['charge']",
            to_slack,
            Some(("WEIR_SOURCE_STRIPE_TYPE", "body:/x")),
            None,
        ),
        (
            "nobody",
            "service = 'http', source = 'rules', types = ['a']",
            to_slack,
            None,
            Some("no rule of this file emits it"),
        ),
    ] {
        let file = rules(&[(name, on, emit)]);
        let settings: Vec<_> = settings.into_iter().collect();
        let output = check(file.path(), &["--json"], &settings);
        assert!(output.status.success(), "{name}");
        let warnings = json(&output)["warnings"].clone();
        let told: Vec<_> = warnings.as_array().unwrap().iter().collect();
        assert_eq!(told.len(), usize::from(warned.is_some()), "{name}: {warnings}");
        if let Some(warned) = warned {
            assert_eq!((&told[0]["rule"], &told[0]["line"]), (&json!(name), &json!(1)));
            assert!(told[0]["what"].as_str().unwrap().contains(warned), "{warnings}");
            let shown = check(file.path(), &[], &settings);
            let shown = String::from_utf8(shown.stdout).unwrap();
            assert!(
                shown.contains(&format!("\nwarning: line 1, rule {name}: ")),
                "{shown}"
            );
        }
    }
    let file = rules(&[
        ("first", on, "service = 'http', type = 'a'"),
        (
            "second",
            "service = 'http', source = 'rules', types = ['a']",
            to_slack,
        ),
    ]);
    assert_eq!(json(&check(file.path(), &["--json"], &[]))["warnings"], json!([]));
}

#[test]
fn the_example_comes_to_something() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/rules/review.toml");
    assert_eq!(json(&check(&example, &["--json"], &[]))["warnings"], json!([]));
}

#[test]
fn a_rule_is_tried_on_what_a_webhook_brought() {
    let tell =
        "service = 'slack', type = 'call', data = { text = '{{ event.key }}: {{ data.issue.title }}' }";
    let file_of_rules = rules(&[(
        "tell",
        "service = 'github', source = 'github', types = ['issues.*'], tenant = 'acme'",
        tell,
    )]);
    let github = [
        "--service",
        "github",
        "--type",
        "issues.opened",
        "--key",
        "o/r",
        "--tenant",
        "acme",
        "--json",
    ];
    for body in [
        r#"{"action":"opened","issue":{"title":"a = b"}}"#,
        "payload=%7B%22issue%22%3A%7B%22title%22%3A%22a+%3D+b%22%7D%7D",
        "%70ayload=%7B%22issue%22%3A%7B%22title%22%3A%22a+%3D+b%22%7D%7D\n",
    ] {
        let payload = file(body);
        let payload = ["--payload", payload.path().to_str().unwrap()];
        let told = json(&check(
            file_of_rules.path(),
            &[&payload[..], &github].concat(),
            &[],
        ));
        assert_eq!(
            told["rules"][0]["emits"][0]["data"],
            json!({"text": "o/r: a = b"}),
            "{told}"
        );
        let other = [&payload[..], &github, &["--source", "shop"]].concat();
        let told = json(&check(file_of_rules.path(), &other, &[]));
        assert_eq!(told["rules"][0]["concerned"], json!(false));
    }
    let broken = file("{");
    let broken = broken.path().to_str().unwrap();
    for (more, says) in [
        (vec!["--payload", broken, "--service", "github"], "--type <TYPE>"),
        (vec!["--payload", broken, "--type", "x"], "--service <NAME>"),
        (vec!["--service", "github"], "--payload <FILE>"),
        (
            vec![
                "--payload",
                broken,
                "--event",
                broken,
                "--service",
                "github",
                "--type",
                "x",
            ],
            "cannot be used with",
        ),
        (
            vec!["--payload", broken, "--service", "github", "--type", "x"],
            "is no JSON",
        ),
    ] {
        let output = check(file_of_rules.path(), &more, &[]);
        assert_eq!(output.status.code(), Some(64), "{more:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(says), "{told}");
    }
}
