//! Reads a rules file, TOML, and tells everything that is wrong with it.

mod fields;

use std::collections::HashMap;
use std::fmt;

use shared::event::{Key, MAX_NAME as MAX_KIND, MAX_SOURCE, Priority, Tenant};
use shared::subject::Service;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::rule::{Emit, On, Pattern, Rule};
use crate::template::{Expression, Place, Template};
use crate::tree::Tree;
use crate::{MAX_NAME, MAX_RULES, cycle};
use fields::{Fields, Reading};

/// Something that is wrong with a rules file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// The rule, by its name or, where it has none, by its place in the file.
    pub rule: Option<String>,
    /// What, beginning with the field.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "line {}, rule {rule}: {}", self.line, self.what),
            None => write!(f, "line {}: {}", self.line, self.what),
        }
    }
}

/// Reads all rules of a file, or says all that is wrong with it.
pub(crate) fn read(text: &str, known: Option<&[Service]>) -> Result<Vec<Rule>, Vec<Problem>> {
    let mut reading = Reading::new(text);
    let (document, broken) = DeTable::parse_recoverable(text);
    for error in &broken {
        let at = error.span().map_or(0, |span| span.start);
        reading.problem(at, format!("is no TOML: {}", error.message()));
    }
    // What was made of a broken file would be told of in vain.
    if !broken.is_empty() {
        return Err(reading.over());
    }
    let mut fields = Fields::of(document.get_ref(), "", document.span().start);
    let rules = fields.take("rule");
    fields.over(&mut reading);
    let mut read = Vec::new();
    match rules.map(|rules| (rules.span().start, rules.get_ref())) {
        None => reading.problem(0, "has no [[rule]]"),
        Some((at, DeValue::Array(rules))) if rules.len() > MAX_RULES => {
            reading.problem(at, format!("has {} rules, more than {MAX_RULES}", rules.len()));
        }
        Some((_, DeValue::Array(rules))) => {
            for (place, rule) in rules.iter().enumerate() {
                reading.begin(format!("number {}", place + 1));
                match rule.get_ref() {
                    DeValue::Table(table) => {
                        read.extend(self::rule(table, rule.span().start, known, &mut reading));
                    }
                    _ => reading.problem(rule.span().start, "is no table: begin it with [[rule]]"),
                }
                reading.end();
            }
        }
        Some((at, _)) => reading.problem(at, "rule is no list: begin each with [[rule]]"),
    }
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for rule in &read {
        if let Some(first) = lines.insert(&rule.name, rule.line) {
            reading.tell(
                rule.line,
                &rule.name,
                format!("name stands in line {first} as well"),
            );
        }
    }
    for cycle in cycle::find(&read) {
        let names: Vec<&str> = cycle
            .iter()
            .chain(cycle.first())
            .map(|rule| rule.name.as_str())
            .collect();
        let what = format!(
            "emits what sets it off again, without a condition and for ever: {}; say when",
            names.join(" -> ")
        );
        reading.tell(cycle[0].line, &cycle[0].name, what);
    }
    let problems = reading.over();
    if problems.is_empty() {
        Ok(read)
    } else {
        Err(problems)
    }
}

/// One rule; `None` when something that it cannot be without is missing or wrong.
fn rule(
    table: &DeTable<'_>,
    at: usize,
    known: Option<&[Service]>,
    reading: &mut Reading<'_>,
) -> Option<Rule> {
    let mut fields = Fields::of(table, "", at);
    let name = fields.text("name", reading);
    let name = match name {
        Some(name) if is_name(&name.text) => {
            reading.begin(name.text.clone());
            Some(name.text)
        }
        Some(name) => {
            let what = format!("name must be 1 to {MAX_NAME} of a-z 0-9 -, a letter first");
            reading.problem(name.at, what);
            None
        }
        None => {
            fields.missing("name", "the rule's own name", reading);
            None
        }
    };
    let each = fields.text("each", reading);
    let place = if each.is_some() { Place::Item } else { Place::Event };
    let expression = |text: Option<fields::Text>, field: &str, reading: &mut Reading<'_>| {
        let text = text?;
        let read = Expression::read(&text.text, Place::Event);
        read.map_err(|what| reading.problem(text.at, format!("{field} {what}")))
            .ok()
    };
    let each = expression(each, "each", reading);
    let when = fields.text("when", reading);
    let when = expression(when, "when", reading);
    let dedup = template(fields.text("dedup", reading), "dedup", place, reading, |_| Ok(()));
    let on = fields.table("on", "which events it concerns", reading);
    let on = on.and_then(|on| self::on(on, known, reading));
    let emit = fields.table("emit", "what it emits", reading);
    let emit = emit.and_then(|emit| self::emit(emit, place, known, reading));
    fields.over(reading);
    Some(Rule {
        name: name?,
        line: reading.line(at),
        on: on?,
        when,
        each,
        dedup,
        emit: emit?,
    })
}

fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_NAME).contains(&name.len()) && name.as_bytes()[0].is_ascii_lowercase() && name.bytes().all(fits)
}

fn on(mut fields: Fields<'_, '_>, known: Option<&[Service]>, reading: &mut Reading<'_>) -> Option<On> {
    let service = service(&mut fields, known, reading);
    let types = fields.take("types");
    let types = match types.map(|types| (types.span().start, types.get_ref())) {
        None => {
            fields.missing(
                "types",
                "event types, such as [\"issues.opened\", \"push*\"]",
                reading,
            );
            None
        }
        Some((_, DeValue::Array(types))) if !types.is_empty() => {
            let types: Vec<_> = types.iter().map(|kind| pattern(kind, reading)).collect();
            types.into_iter().collect::<Option<Vec<_>>>()
        }
        Some((at, _)) => {
            reading.problem(at, "on.types must be a list of event types, not empty");
            None
        }
    };
    let source = fields.text("source", reading);
    if let Some(source) = source
        .as_ref()
        .filter(|source| !(1..=MAX_SOURCE).contains(&source.text.len()))
    {
        reading.problem(source.at, format!("on.source must be 1 to {MAX_SOURCE} bytes"));
    }
    let tenant = fields.text("tenant", reading);
    if let Some((at, wrong)) = tenant
        .as_ref()
        .and_then(|tenant| Some((tenant.at, Tenant::new(tenant.text.as_str()).err()?)))
    {
        reading.problem(at, format!("on.tenant {wrong}"));
    }
    fields.over(reading);
    Some(On {
        service: service?,
        types: types?,
        source: source.map(|text| text.text),
        tenant: tenant.map(|text| text.text),
    })
}

fn pattern(kind: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Pattern> {
    let Some(text) = kind.get_ref().as_str() else {
        reading.problem(kind.span().start, "on.types must hold text");
        return None;
    };
    let (start, open) = match text.strip_suffix('*') {
        Some(start) => (start, true),
        None => (text, false),
    };
    let fits = text.len() <= MAX_KIND && !start.contains('*') && !text.chars().any(char::is_control);
    if !fits || text.is_empty() {
        let what = format!(
            "on.types has {text:?}: an event type of at most {MAX_KIND} bytes, with * at its end only"
        );
        reading.problem(kind.span().start, what);
        return None;
    }
    let start = start.to_owned();
    Some(if open {
        Pattern::Begins(start)
    } else {
        Pattern::Is(start)
    })
}

fn service(
    fields: &mut Fields<'_, '_>,
    known: Option<&[Service]>,
    reading: &mut Reading<'_>,
) -> Option<Service> {
    let Some(text) = fields.text("service", reading) else {
        fields.missing("service", "a service of the fleet", reading);
        return None;
    };
    let path = fields.path("service");
    match (Service::new(text.text.as_str()), known) {
        (Err(wrong), _) => {
            reading.problem(text.at, format!("{path} {wrong}"));
            None
        }
        (Ok(service), Some(known)) if !known.contains(&service) => {
            let names: Vec<&str> = known.iter().map(Service::as_str).collect();
            let names = names.join(", ");
            reading.problem(
                text.at,
                format!("{path} is {service}, which is not in WEIR_SERVICES: {names}"),
            );
            None
        }
        (Ok(service), _) => Some(service),
    }
}

fn emit(
    mut fields: Fields<'_, '_>,
    place: Place,
    known: Option<&[Service]>,
    reading: &mut Reading<'_>,
) -> Option<Emit> {
    let service = service(&mut fields, known, reading);
    let kind = fields.text("type", reading);
    if kind.is_none() {
        fields.missing("type", "what happened, such as review.wanted", reading);
    }
    let kind = template(kind, "emit.type", place, reading, |text| {
        let fits = (1..=MAX_KIND).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits {
            Ok(())
        } else {
            Err(format!(
                "must be 1 to {MAX_KIND} bytes without control characters"
            ))
        }
    });
    let key = template(fields.text("key", reading), "emit.key", place, reading, |text| {
        Key::new(text).map(|_| ()).map_err(|wrong| wrong.to_string())
    });
    let tenant = template(
        fields.text("tenant", reading),
        "emit.tenant",
        place,
        reading,
        |text| Tenant::new(text).map(|_| ()).map_err(|wrong| wrong.to_string()),
    );
    let mut tree = |name: &'static str, reading: &mut Reading<'_>| fields.tree(name, place, reading);
    let (priority, data, context) = (
        tree("priority", reading),
        tree("data", reading),
        tree("context", reading),
    );
    if let Some((at, Tree::Fixed(value))) = &priority
        && value.as_u64().is_none_or(|number| Priority::new(number).is_err())
    {
        reading.problem(*at, "emit.priority must be a whole number from 1 to 10");
    }
    if let Some((at, Tree::Fixed(_) | Tree::List(_))) = &context {
        reading.problem(*at, "emit.context must be a table");
    }
    fields.over(reading);
    Some(Emit {
        service: service?,
        kind: kind?,
        priority: priority.map(|(_, tree)| tree),
        key,
        tenant,
        data: data.map(|(_, tree)| tree),
        context: context.map(|(_, tree)| tree),
    })
}

/// A template; one that is the same for every event is checked for what it must be.
fn template(
    text: Option<fields::Text>,
    path: &str,
    place: Place,
    reading: &mut Reading<'_>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Template> {
    let text = text?;
    let read = Template::read(&text.text, place);
    let checked = read.and_then(|template| template.fixed().map_or(Ok(()), check).map(|()| template));
    checked
        .map_err(|what| reading.problem(text.at, format!("{path} {what}")))
        .ok()
}
