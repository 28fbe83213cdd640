use shared::dead_letter::Attempt;
use shared::subject::{Lane, Service};

use super::*;

fn github() -> Service {
    Service::new("github").unwrap()
}

fn waiting() -> Waiting {
    Waiting {
        service: github(),
        lane: Lane::Normal,
        sequence: 17,
        taken: false,
        before: 42,
        ahead: 50,
        in_flight: 20,
        kept: 0,
        begins: Some(90.0),
        because: Some("Calls wait for requests.".into()),
        attempts: 0,
        history: Vec::new(),
    }
}

#[test]
fn an_event_in_a_stream_tells_its_place_and_its_time() {
    let said = waits(&waiting()).join(" ");
    assert!(
        said.starts_with("It waits in lane normal behind 42 of github (message 17), and about 8 of other lanes go first, since "),
        "{said}"
    );
    assert!(
        said.contains("20 are in flight. Calls wait for requests. It may begin at "),
        "{said}"
    );
    let taken = waits(&Waiting {
        taken: true,
        attempts: 2,
        ..waiting()
    })
    .join(" ");
    assert!(
        taken.starts_with("A worker of github has it (message 17, lane normal, after 2 failed attempts)"),
        "{taken}"
    );
    let free = waits(&Waiting {
        before: 0,
        ahead: 0,
        begins: None,
        because: None,
        ..waiting()
    })
    .join(" ");
    assert!(
        free.starts_with("It waits first in lane normal of github"),
        "{free}"
    );
    assert!(free.ends_with("set the pace."), "{free}");
}

#[test]
fn what_waits_for_its_time_says_which_and_hostile_text_is_escaped() {
    let attempt = Attempt {
        at: 1,
        code: "timeout".into(),
        detail: "\x1b[2Jno answer".into(),
    };
    let retry = Put {
        service: github(),
        due: false,
        at: Some(1_900_000_000_000),
        out_of_service: false,
        planned: None,
        budgets: None,
        attempts: 2,
        history: vec![attempt.clone()],
    };
    let said = put(&retry);
    assert!(
        said.starts_with(
            "github has failed on it 2 times (timeout: \\u{1b}[2Jno answer), and tries again at 2030-03-17 "
        ),
        "{said}"
    );
    let turn = Put {
        planned: Some(1_900_000_000_000),
        ..retry.clone()
    };
    assert!(
        put(&turn).starts_with("It waits for its turn at a limit of github, planned for 2030-"),
        "{turn:?}"
    );
    let budget = put(&Put {
        budgets: Some(vec!["Of the day's budget nothing is left.".into()]),
        ..turn.clone()
    });
    assert!(
        budget.starts_with("It waits for a budget of github: ") && budget.ends_with("nothing is left."),
        "{budget}"
    );
    let out = Put {
        out_of_service: true,
        ..retry.clone()
    };
    assert!(
        put(&out).starts_with(
            "It waits for an upstream of github to be back in service, and is looked at again at 2030-"
        ),
        "{out:?}"
    );
    let report = Report {
        put: vec![retry],
        ..Report::default()
    };
    assert_eq!(report.verdict(), "retry");
    let lines = report.lines(&EventId::new("e-1").unwrap()).join("\n");
    assert!(
        lines.starts_with("e-1: retry\n") && lines.contains("Attempts that failed"),
        "{lines}"
    );
    assert!(!lines.contains('\x1b'), "{lines:?}");
}

#[test]
fn an_event_that_is_nowhere_says_how_far_was_looked() {
    let report = Report {
        searched: vec![Searched {
            stream: "WEIR_github".into(),
            looked_at: MOST,
            total: 2_000_000,
            cut: true,
        }],
        unknown: Some("no Postgres is known".into()),
        ..Report::default()
    };
    let said = nowhere(&EventId::new("e-1").unwrap(), &report);
    assert_eq!((report.verdict(), report.is_known()), ("unknown", false));
    assert!(said.contains("nothing is known of e-1"), "{said}");
    assert!(
        said.contains("of the 2000000 messages of WEIR_github only the newest 100000"),
        "{said}"
    );
    assert!(said.contains("the results cannot be read"), "{said}");
}

#[test]
fn a_letter_of_an_event_that_is_done_is_told() {
    let letter = Buried {
        service: github(),
        sequence: 7,
        code: "rule_loop".into(),
        reason: "rule again on event e-1: \u{202e}too many".into(),
        attempts: 0,
        at: 0,
        history: Vec::new(),
    };
    let said = buried(&letter, true);
    assert!(
        said.starts_with(
            "github keeps a dead letter of it all the same: rule_loop: rule again on event e-1: \\u{202e}too many, "
        ) && said.ends_with("`weir dlq replay 7`."),
        "{said}"
    );
    let said = buried(&letter, false);
    assert!(
        said.starts_with("github has given it up: rule_loop: ") && said.contains(", after 0 attempts, "),
        "{said}"
    );
    let done = Row {
        service: "github".into(),
        state: "done".into(),
        attempts: 1,
        code: "http_200".into(),
        detail: String::new(),
        result: None,
        took_ms: 1,
        worker: "w".into(),
        trace_id: "0".into(),
        accepted_ms: 0,
        finished_ms: 0,
    };
    let report = Report {
        rows: vec![done],
        buried: vec![letter],
        searched: vec![Searched {
            stream: "WEIR_DEAD".into(),
            looked_at: 8_192,
            total: 20_000,
            cut: true,
        }],
        ..Report::default()
    };
    let said = report.sentences();
    assert_eq!((report.verdict(), said.len()), ("done", 3), "{said:?}");
    assert!(said[1].contains("all the same"), "{said:?}");
    assert!(
        said[2].starts_with("Of 20000 dead letters only the newest 8192 "),
        "{said:?}"
    );
}
