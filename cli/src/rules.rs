//! `weir rules check`: what is wrong with a rules file, what in it comes to nothing, and what would follow from a sample.

mod idle;
mod sample;

use std::io::Read;
use std::path::Path;

use ::rules::{Decided, MAX_INPUT, Rule, Rules, decide};
use serde_json::{Value, json};
use shared::config::environment::MAX_BYTES;
use shared::config::{Environment, Process, value};
use shared::event::{Key, Tenant};
use shared::subject::Service;

use crate::args::{self, Check};
use crate::failure::Failure;
use crate::terminal::{clean, clean_lines, out, out_json};
use sample::Sample;

pub(crate) fn run(command: &args::Rules) -> Result<(), Failure> {
    match command {
        args::Rules::Check(check) => self::check(check),
    }
}

fn check(check: &Check) -> Result<(), Failure> {
    let text = read(&check.file, MAX_BYTES)?;
    let known = services(check)?;
    let sample = match (&check.event, &check.payload) {
        (Some(path), _) => Some(Sample::read(&read(path, MAX_INPUT * 4)?, path)?),
        (None, Some(path)) => Some(Sample::of_payload(read(path, MAX_INPUT * 4)?, path, check)?),
        (None, None) => None,
    };
    let rules = match Rules::read(&text, known.as_deref()) {
        Ok(rules) => rules,
        Err(problems) => {
            if check.json {
                let told = problems
                    .iter()
                    .map(|problem| json!({"line": problem.line, "rule": problem.rule, "what": problem.what}));
                out_json(&json!({"problems": told.collect::<Vec<_>>()}));
            } else {
                for problem in &problems {
                    out(clean(&problem.to_string(), usize::MAX));
                }
            }
            let (count, file) = (problems.len(), check.file.display());
            let things = if count == 1 { "thing is" } else { "things are" };
            return Err(Failure::Failed(format!("{count} {things} wrong with {file}")));
        }
    };
    let warnings = idle::find(&rules);
    let decisions: Vec<_> = match &sample {
        Some(sample) => rules
            .all()
            .iter()
            .map(|rule| (rule, decision(rule, &rules, sample)))
            .collect(),
        None => Vec::new(),
    };
    if check.json {
        let decided = decisions
            .iter()
            .map(|(rule, decided)| shown(rule, decided.as_ref()));
        let warned = warnings
            .iter()
            .map(|idle::Warning { rule, what }| json!({"line": rule.line, "rule": rule.name, "what": what}));
        out_json(&json!({
            "problems": [],
            "warnings": warned.collect::<Vec<_>>(),
            "rules": decided.collect::<Vec<_>>(),
        }));
    } else {
        let count = rules.all().len();
        let things = if count == 1 { "rule" } else { "rules" };
        out(format_args!(
            "{}: {count} {things}, nothing wrong",
            check.file.display()
        ));
        for idle::Warning { rule, what } in &warnings {
            let line = format!("warning: line {}, rule {}: {what}", rule.line, rule.name);
            out(clean(&line, 1000));
        }
        for (rule, decided) in &decisions {
            tell(rule, decided.as_ref());
        }
    }
    let failed = decisions.iter().filter_map(|(_, decided)| decided.as_ref());
    let count = failed.flat_map(|decided| &decided.failures).count();
    let what = match count {
        0 => return Ok(()),
        1 => "1 rule fails on this event".to_owned(),
        count => format!("{count} rules fail on this event"),
    };
    let hint = match check.payload {
        Some(_) => "; of `code` and `result`, how it ended, a payload says nothing: --event does",
        None => "",
    };
    Err(Failure::Failed(what + hint))
}

/// What one rule decides on the sample; `None` when it does not concern it.
fn decision(rule: &Rule, all: &Rules, sample: &Sample) -> Option<Decided> {
    let concerned = all.on(&sample.service, &sample.event);
    let own: Vec<Rule> = concerned
        .into_iter()
        .filter(|found| found.name == rule.name)
        .collect();
    (!own.is_empty()).then(|| decide(&own, sample.input()))
}

fn tell(rule: &Rule, decided: Option<&Decided>) {
    let name = &rule.name;
    let Some(decided) = decided else {
        return out(format_args!("\n{name}: is on other events"));
    };
    if let Some(failure) = decided.failures.first() {
        return out(format_args!("\n{name}: FAILS, {}", clean(&failure.what, 1000)));
    }
    match decided.follow_ups.len() {
        0 => out(format_args!("\n{name}: emits nothing on it")),
        1 => out(format_args!("\n{name}: emits an event")),
        count => out(format_args!("\n{name}: emits {count} events")),
    }
    for made in &decided.follow_ups {
        let event = &made.event;
        let kind = clean(&event.kind, 200);
        out(format_args!(
            "  {} {kind}, id {}, priority {}",
            made.service,
            event.id,
            event.priority.get()
        ));
        if let Some(key) = &event.key {
            out(format_args!("    key      {}", clean(key.as_str(), 300)));
        }
        if let Some(tenant) = &event.tenant {
            out(format_args!("    tenant   {}", tenant.as_str()));
        }
        for (what, value) in [("data   ", data(event)), ("context", context(event))] {
            if let Some(value) = value {
                let text = serde_json::to_string_pretty(&value).unwrap_or_default();
                out(format_args!(
                    "    {what}  {}",
                    clean_lines(&text).replace('\n', "\n             ")
                ));
            }
        }
    }
}

fn shown(rule: &Rule, decided: Option<&Decided>) -> Value {
    let Some(decided) = decided else {
        return json!({"rule": rule.name, "line": rule.line, "concerned": false});
    };
    let emits = decided.follow_ups.iter().map(|made| {
        let event = &made.event;
        json!({
            "service": made.service.as_str(),
            "id": event.id.as_str(),
            "type": event.kind,
            "priority": event.priority.get(),
            "key": event.key.as_ref().map(Key::as_str),
            "tenant": event.tenant.as_ref().map(Tenant::as_str),
            "data": data(event),
            "context": context(event),
        })
    });
    json!({
        "rule": rule.name,
        "line": rule.line,
        "concerned": true,
        "emits": emits.collect::<Vec<_>>(),
        "failure": decided.failures.first().map(|failure| &failure.what),
    })
}

fn data(event: &shared::event::Event) -> Option<Value> {
    event.data.to_json().ok().flatten()
}

fn context(event: &shared::event::Event) -> Option<Value> {
    event.extra.json(::rules::CONTEXT).ok().flatten()
}

fn services(check: &Check) -> Result<Option<Vec<Service>>, Failure> {
    let Some(list) = check.services.clone().or_else(|| Process.get("WEIR_SERVICES")) else {
        return Ok(None);
    };
    let services = value::list(&list).into_iter().map(|name| {
        let shown = name.clone();
        Service::new(name).map_err(|error| Failure::Usage(format!("--services: {shown:?} {error}")))
    });
    services.collect::<Result<Vec<_>, _>>().map(Some)
}

/// The text of a file of at most so many bytes.
fn read(path: &Path, most: usize) -> Result<String, Failure> {
    let wrong = |what: &dyn std::fmt::Display| Failure::Usage(format!("{}: {what}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    let mut bytes = Vec::new();
    let took = file.take(most as u64 + 1).read_to_end(&mut bytes);
    took.map_err(|error| wrong(&error))?;
    if bytes.len() > most {
        return Err(wrong(&format_args!("has more than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| wrong(&"is no text"))
}
