//! Rules that come to nothing, as far as that can be known: they emit what a handler does nothing with, or wait for what
//! a maker of webhooks never sends. None of it makes a file wrong: there are programs and publishers of one's own.

use ::rules::{Pattern, Rule, Rules, SOURCE};
use shared::config::{Environment, Process};
use worker::handler::{KINDS, Kind, github};

/// Most types that a warning lists.
const LISTED: usize = 8;

/// What a rule does in vain.
#[derive(Debug)]
pub(crate) struct Warning<'r> {
    pub(crate) rule: &'r Rule,
    pub(crate) what: String,
}

/// All of these rules that come to nothing, in their order.
pub(crate) fn find(rules: &Rules) -> Vec<Warning<'_>> {
    let mut warnings = Vec::new();
    for rule in rules.all() {
        let told = unsent(rule, rules).into_iter().chain(untaken(rule));
        warnings.extend(told.map(|what| Warning { rule, what }));
    }
    warnings
}

/// A setting of this process, which may be the fleet's.
fn setting(family: &str, name: &str, suffix: &str) -> Option<String> {
    let name = name.to_ascii_uppercase().replace('-', "_");
    Process.get(&format!("WEIR_{family}_{name}_{suffix}"))
}

/// What is wrong with the type that it emits.
fn untaken(rule: &Rule) -> Option<String> {
    let (service, kind) = (rule.target().as_str(), rule.emitted()?);
    let handler = setting("SERVICE", service, "HANDLER");
    let handler = handler.as_deref().unwrap_or(service);
    let handler: &Kind = KINDS.iter().find(|known| known.name == handler)?;
    if handler.takes(kind) {
        return None;
    }
    let listed = handler.types.iter().take(LISTED).copied();
    let mut listed = listed.collect::<Vec<_>>().join(", ");
    if handler.types.len() > LISTED {
        listed.push_str(", ...");
    }
    Some(format!(
        "emit.type is {kind}, and {service} does nothing with it; it takes {listed}"
    ))
}

/// What is wrong with the types that it waits for.
fn unsent(rule: &Rule, rules: &Rules) -> Vec<String> {
    let Some(source) = rule.source() else {
        return Vec::new();
    };
    let kind = setting("SOURCE", source, "KIND");
    let kind = kind.as_deref().unwrap_or(source);
    // Where settings say what the type is, it is none of the maker's.
    let own = source != SOURCE && setting("SOURCE", source, "TYPE").is_some();
    let patterns = rule.types().iter().filter(|_| !own);
    let why = |pattern: &&Pattern| {
        if source == SOURCE {
            let emitted = |by: &Rule| {
                by.target() == rule.service() && by.emitted().is_none_or(|kind| pattern.fits(kind))
            };
            let none = !rules.all().iter().any(emitted);
            return none.then_some("no rule of this file emits it there");
        }
        unknown(kind, pattern)
    };
    let told = patterns.filter_map(|pattern| Some((pattern, why(&pattern)?)));
    told.map(|(pattern, why)| format!("on.types has {pattern}, which never comes from {source}: {why}"))
        .collect()
}

/// Why no webhook of this maker is called so; `None` where one is, or nobody knows.
fn unknown(maker: &str, pattern: &Pattern) -> Option<&'static str> {
    let (start, open) = match pattern {
        Pattern::Is(name) => (name.as_str(), false),
        Pattern::Begins(start) => (start.as_str(), true),
    };
    // What a delivery without a type is called.
    if start == "webhook" {
        return None;
    }
    let (sent, why) = match maker {
        "github" => {
            let is = |name: &&str| match start.strip_prefix(*name) {
                Some(rest) => rest.is_empty() || rest.starts_with('.'),
                None => open && name.starts_with(start),
            };
            let sent = github::WEBHOOKS
                .iter()
                .any(|name| is(&name.trim_end_matches(".*")));
            (sent, "GitHub has no webhook of this name")
        }
        "gitlab" => (
            !start.contains(|c: char| c == ' ' || c.is_ascii_uppercase()),
            "GitLab's are object_kind and action, as merge_request.open",
        ),
        "linear" => (
            start.starts_with(|c: char| c.is_ascii_uppercase()) || open && start.is_empty(),
            "Linear's begin with a capital, as Issue.create",
        ),
        "slack" => (
            !start.contains(|c: char| c == '.' || c.is_ascii_uppercase()),
            "Slack's are words as app_mention or message",
        ),
        "stripe" => (
            open || start.contains('.'),
            "Stripe's have a dot, as charge.succeeded",
        ),
        _ => return None,
    };
    (!sent).then_some(why)
}
