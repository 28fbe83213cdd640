//! From an event that is done to the events that follow from it.

use minijinja::Value;
use minijinja::value::{Serde, ValueKind};
use serde_json::{Value as Json, json};
use shared::event::{Data, Event, EventId, Extra, Key, MAX_NAME, Priority, Tenant};
use shared::subject::Service;

use crate::id::{Part, derive};
use crate::rule::Rule;
use crate::template::{self, Uses};
use crate::{
    CONTEXT, Chain, FAILED, LOOPED, MAX_CONTEXT, MAX_DATA, MAX_EACH, MAX_INPUT, MAX_TOTAL, MAX_VALUES, Rules,
    SOURCE,
};

/// An event that is done, as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Whose event.
    pub service: &'a Service,
    /// The event.
    pub event: &'a Event,
    /// The one word that says how it ended, for example `http_200`; `None` when nobody knows any more.
    pub code: Option<&'a str>,
    /// What was kept of the answer.
    pub result: Option<&'a Json>,
    /// The rules that led to the event.
    pub chain: &'a Chain,
    /// Most events that may follow one from the other.
    pub hops: usize,
}

/// An event that follows.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowUp {
    /// The rule that emits it.
    pub rule: String,
    /// Whose event.
    pub service: Service,
    /// The event.
    pub event: Event,
    /// The rules that led to it.
    pub chain: Chain,
}

/// A rule that came to no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its name.
    pub rule: String,
    /// [`FAILED`] or [`LOOPED`].
    pub code: &'static str,
    /// Where and why, in one line.
    pub what: String,
}

impl Failure {
    /// A failure of this rule.
    pub fn of(rule: String, what: String) -> Self {
        let code = FAILED;
        Self { rule, code, what }
    }
}

/// What follows from an event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decided {
    /// In the order of the rules; all of a rule or none.
    pub follow_ups: Vec<FollowUp>,
    /// The rules that failed; the others are not held up by them.
    pub failures: Vec<Failure>,
}

impl Rules {
    /// What follows from an event that is done; see [`decide`].
    pub fn decide(&self, input: Input<'_>) -> Decided {
        decide(&self.on(input.service, input.event), input)
    }
}

/// What follows from an event that is done by these rules, which concern it. The same event, code and result always
/// give the same.
pub fn decide(rules: &[Rule], input: Input<'_>) -> Decided {
    let mut decided = Decided::default();
    let uses = rules.iter().map(Rule::uses).fold(Uses::default(), Uses::and);
    let scope = Scope::new(input, uses);
    let mut room = MAX_TOTAL;
    for rule in rules {
        let fail = |code: &'static str, what: String| Failure {
            rule: rule.name.clone(),
            code,
            what,
        };
        let made = scope
            .check(rule.uses())
            .and_then(|()| each(rule, &scope, input, &mut room));
        match made {
            Ok(made) if !made.is_empty() && input.chain.hops() >= input.hops => {
                let chain = input.chain.then(&rule.name);
                let what = format!(
                    "{} rules after each other, and at most {} may be: {chain}",
                    chain.hops(),
                    input.hops
                );
                decided.failures.push(fail(LOOPED, what));
            }
            Ok(made) => decided.follow_ups.extend(made),
            Err(what) => decided.failures.push(fail(FAILED, what)),
        }
    }
    decided
}

/// What templates see of an event, and what is wrong with the parts that cannot be seen.
struct Scope {
    values: Vec<(&'static str, Value)>,
    unseen: Vec<(Uses, String)>,
    context: Result<Option<Json>, String>,
}

impl Scope {
    fn new(input: Input<'_>, uses: Uses) -> Self {
        let event = input.event;
        let seen = json!({
            "id": event.id.as_str(),
            "type": event.kind,
            "service": input.service.as_str(),
            "source": event.source,
            "time": event.time_ms,
            "priority": event.priority.get(),
            "key": event.key.as_ref().map(Key::as_str),
            "tenant": event.tenant.as_ref().map(Tenant::as_str),
        });
        let mut scope = Self {
            values: vec![("event", Value::from(Serde(&seen)))],
            unseen: Vec::new(),
            context: event.extra.json(CONTEXT),
        };
        if let Some(code) = input.code {
            scope.values.push(("code", Value::from(code)));
        }
        if uses.data {
            match data(&event.data) {
                Ok(Some(data)) => scope.values.push(("data", Value::from(Serde(&data)))),
                Ok(None) => {}
                Err(what) => scope.unseen.push((Uses::DATA, format!("data {what}"))),
            }
        }
        if uses.result
            && let Some(result) = input.result
        {
            if size(result) > MAX_INPUT {
                let what = format!("result is larger than the {MAX_INPUT} bytes that templates are given");
                scope.unseen.push((Uses::RESULT, what));
            } else if !is_small(result) {
                let what = format!("result holds more than the {MAX_VALUES} values that templates are given");
                scope.unseen.push((Uses::RESULT, what));
            } else {
                scope.values.push(("result", Value::from(Serde(result))));
            }
        }
        match &scope.context {
            Ok(Some(context)) => scope.values.push((CONTEXT, Value::from(Serde(context)))),
            Ok(None) => {}
            Err(what) => scope.unseen.push((Uses::CONTEXT, format!("context {what}"))),
        }
        scope
    }

    /// Whether all that these templates look at can be seen.
    fn check(&self, uses: Uses) -> Result<(), String> {
        match self.unseen.iter().find(|(part, _)| part.meets(uses)) {
            Some((_, what)) => Err(what.clone()),
            None => Ok(()),
        }
    }

    fn value(&self, item: Option<(usize, &Value)>) -> Value {
        let item = item.into_iter();
        let item = item.flat_map(|(index, item)| [("item", item.clone()), ("index", Value::from(index))]);
        Value::from_pairs(self.values.iter().cloned().chain(item))
    }
}

fn size(value: &Json) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |text| text.len())
}

/// The data of an event as JSON; `None` where it has none that is any.
fn data(data: &Data) -> Result<Option<Json>, String> {
    let bytes = match data {
        Data::None => 0,
        Data::Inline(bytes) | Data::Blob { bytes, .. } => bytes.len(),
    };
    if bytes > MAX_INPUT {
        return Err(format!(
            "is larger than the {MAX_INPUT} bytes that templates are given"
        ));
    }
    let json = data.to_json().map_err(|what| format!("is no JSON: {what}"))?;
    match json {
        Some(json) if !is_small(&json) => Err(format!(
            "holds more than the {MAX_VALUES} values that templates are given"
        )),
        json => Ok(json),
    }
}

/// Whether there are few enough values in it. Each costs a hundred times its bytes while templates look at it.
fn is_small(json: &Json) -> bool {
    fn count(json: &Json, left: usize) -> Option<usize> {
        let left = left.checked_sub(1)?;
        match json {
            Json::Array(items) => items.iter().try_fold(left, |left, item| count(item, left)),
            Json::Object(fields) => fields.values().try_fold(left, |left, value| count(value, left)),
            _ => Some(left),
        }
    }
    count(json, MAX_VALUES).is_some()
}

/// All that a rule emits on an event, or why it emits nothing of it.
fn each(rule: &Rule, scope: &Scope, input: Input<'_>, room: &mut usize) -> Result<Vec<FollowUp>, String> {
    let whole = scope.value(None);
    if let Some(when) = &rule.when {
        let held = when.value(&whole).map_err(|what| format!("when: {what}"))?;
        if held.kind() != ValueKind::Bool {
            return Err(format!("when: gives a {}, must give true or false", held.kind()));
        }
        if !held.is_true() {
            return Ok(Vec::new());
        }
    }
    let Some(each) = &rule.each else {
        return Ok(vec![one(rule, &whole, 0, scope, input, room)?]);
    };
    let list = each.value(&whole).map_err(|what| format!("each: {what}"))?;
    if !matches!(list.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(format!("each: gives a {}, must give a list", list.kind()));
    }
    let items = list.try_iter().map_err(|error| format!("each: {error}"))?;
    let items: Vec<Value> = items.take(MAX_EACH + 1).collect();
    if items.len() > MAX_EACH {
        return Err(format!("each: gives more than {MAX_EACH} items"));
    }
    let made = items.iter().enumerate();
    made.map(|(index, item)| one(rule, &scope.value(Some((index, item))), index, scope, input, room))
        .collect()
}

/// One event.
fn one(
    rule: &Rule,
    values: &Value,
    index: usize,
    scope: &Scope,
    input: Input<'_>,
    room: &mut usize,
) -> Result<FollowUp, String> {
    let emit = &rule.emit;
    let at = |path: &str, index: usize| match rule.each {
        Some(_) => format!("{path} of item {index}"),
        None => path.to_owned(),
    };
    let wrong = |path: &str| {
        let path = at(path, index);
        move |what: String| format!("{path}: {what}")
    };
    let text =
        |template: &template::Template, path: &str| template.text(values, MAX_CONTEXT).map_err(wrong(path));
    let kind = text(&emit.kind, "emit.type")?.unwrap_or_default();
    if !(1..=MAX_NAME).contains(&kind.len()) || kind.chars().any(char::is_control) {
        let what = format!("must be 1 to {MAX_NAME} bytes without control characters");
        return Err(wrong("emit.type")(what));
    }
    let tenant = match &emit.tenant {
        None => input.event.tenant.clone(),
        Some(template) => text(template, "emit.tenant")?
            .map(|tenant| Tenant::new(tenant).map_err(|invalid| wrong("emit.tenant")(invalid.to_string())))
            .transpose()?,
    };
    let key = emit.key.as_ref().map(|template| text(template, "emit.key"));
    let key = key.transpose()?.flatten();
    let key = key.map(|key| Key::new(key).map_err(|invalid| wrong("emit.key")(invalid.to_string())));
    let tree = |tree: &crate::tree::Tree, path: &str, most: usize| {
        tree.fill(values, most)
            .map_err(|(within, what)| wrong(&format!("{path}{within}"))(what))
    };
    let priority = match &emit.priority {
        None => input.event.priority,
        Some(priority) => {
            let given = tree(priority, "emit.priority", 64)?;
            let number = given.as_u64().and_then(|number| Priority::new(number).ok());
            number.ok_or_else(|| wrong("emit.priority")("must be a whole number from 1 to 10".into()))?
        }
    };
    let data = match &emit.data {
        None => Data::None,
        Some(data) => {
            let filled = tree(data, "emit.data", MAX_DATA)?;
            let bytes = serde_json::to_vec(&filled).map_err(|error| wrong("emit.data")(error.to_string()))?;
            *room = room.checked_sub(bytes.len()).ok_or_else(|| {
                wrong("emit.data")(format!(
                    "all that follows from this event has more than {MAX_TOTAL} bytes"
                ))
            })?;
            Data::json(bytes)
        }
    };
    let context = match &emit.context {
        None => scope.context.clone().map_err(wrong("context"))?,
        Some(context) => Some(tree(context, "emit.context", MAX_CONTEXT)?),
    };
    let mut extra = Extra::default();
    if let Some(context) = context.filter(|context| context.as_object().is_none_or(|map| !map.is_empty())) {
        let kept = extra.push_json(CONTEXT, &context);
        kept.map_err(|error| wrong("emit.context")(error.to_string()))?;
    }
    let said = rule.dedup.as_ref().map(|template| text(template, "dedup"));
    let said = match said.transpose()? {
        Some(None) => return Err(wrong("dedup")("gives nothing".into())),
        Some(said) => said,
        None => None,
    };
    let part = match &said {
        Some(said) => Part::Said(said, tenant.as_ref()),
        None => Part::Place(&input.event.id, index),
    };
    let id: EventId = derive(&rule.name, part);
    Ok(FollowUp {
        rule: rule.name.clone(),
        service: emit.service.clone(),
        chain: input.chain.then(&rule.name),
        event: Event {
            source: Some(SOURCE.to_owned()),
            priority,
            key: key.transpose()?,
            tenant,
            data,
            extra,
            ..Event::new(id, kind)
        },
    })
}
