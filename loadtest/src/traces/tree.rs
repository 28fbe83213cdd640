//! A trace as a tree for a terminal of 100 columns.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
    sync::Arc,
};

use super::span::Span;

/// Columns of a line.
const WIDTH: usize = 100;
const NAME: usize = 46;
const SERVICE: usize = 15;
const KIND: usize = 9;
const DURATION: usize = 9;
/// What is left for the bar that shows when a span ran.
const BAR: usize = WIDTH - NAME - SERVICE - KIND - DURATION - 4;
/// Deepest nesting drawn; what lies below is drawn at this depth.
const MAX_DEPTH: usize = 12;

/// Attributes worth a reader's eye, in the order shown; whatever begins with `weir.` comes after them.
const KEY_ATTRIBUTES: [&str; 16] = [
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "messaging.operation.name",
    "messaging.destination.name",
    "messaging.message.id",
    "messaging.batch.message_count",
    "url.full",
    "url.path",
    "server.address",
    "server.port",
    "http.request.resend_count",
    "db.system.name",
    "db.operation.name",
    "db.operation.batch.size",
    "error.type",
];

/// Draws the spans of one trace; empty without spans. Ends with a newline.
pub fn draw(spans: &[Arc<Span>]) -> String {
    let Some(first) = spans.first() else {
        return String::new();
    };
    let start = spans.iter().map(|span| span.start_ns).min().unwrap_or_default();
    let end = spans.iter().map(|span| span.end_ns).max().unwrap_or_default();
    let services: HashSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    let mut page = Page {
        out: String::new(),
        start,
        total: (end - start).max(1),
    };
    let _ = writeln!(
        page.out,
        "trace {}   {}, {}, {}",
        first.trace_id,
        counted(spans.len(), "span"),
        counted(services.len(), "service"),
        human(end - start),
    );
    let known: HashSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let mut children: HashMap<&str, Vec<&Span>> = HashMap::new();
    let mut roots: Vec<&Span> = Vec::new();
    for span in spans {
        match span
            .parent_id
            .as_deref()
            .filter(|id| known.contains(id) && *id != span.span_id)
        {
            Some(parent) => children.entry(parent).or_default().push(span),
            None => roots.push(span),
        }
    }
    for family in children.values_mut().chain([&mut roots]) {
        family.sort_by_key(|span| span.start_ns);
    }
    let mut drawn = HashSet::new();
    for root in &roots {
        page.family(root, &children, &mut drawn, "", None);
    }
    // Parents in a circle have no root; hostile, but every span is shown.
    for span in spans {
        if !drawn.contains(span.span_id.as_str()) {
            page.family(span, &children, &mut drawn, "", None);
        }
    }
    page.out
}

struct Page {
    out: String,
    start: u64,
    total: u64,
}

impl Page {
    /// Draws a span and what it caused. `last` is `None` for a root.
    fn family<'a>(
        &mut self,
        span: &'a Span,
        children: &HashMap<&str, Vec<&'a Span>>,
        drawn: &mut HashSet<&'a str>,
        indent: &str,
        last: Option<bool>,
    ) {
        if !drawn.insert(&span.span_id) {
            return;
        }
        let (branch, below) = match last {
            None => ("", ""),
            Some(false) => ("├─ ", "│  "),
            Some(true) => ("└─ ", "   "),
        };
        let deep = indent.chars().count() >= MAX_DEPTH * 3;
        let below = if deep {
            indent.to_owned()
        } else {
            format!("{indent}{below}")
        };
        self.line(span, &format!("{indent}{branch}"));
        let family = children.get(span.span_id.as_str()).map_or(&[][..], Vec::as_slice);
        let trunk = if family.is_empty() { "   " } else { "│  " };
        self.details(span, &format!("{below}{trunk}"), last.is_none());
        for (index, child) in family.iter().enumerate() {
            self.family(child, children, drawn, &below, Some(index + 1 == family.len()));
        }
    }

    fn line(&mut self, span: &Span, lead: &str) {
        let name = fit(&format!("{lead}{}", clean(&span.name)), NAME);
        let service = fit(&clean(&span.service), SERVICE);
        let kind = fit(span.kind.as_str(), KIND);
        let took = format!("{:>DURATION$}", human(span.duration_ns()));
        let line = format!("{name} {service} {kind} {took} {}", self.bar(span));
        self.put(&line);
    }

    /// Where in the trace's time the span ran.
    fn bar(&self, span: &Span) -> String {
        let place = |at: u64| ((at - self.start) as f64 / self.total as f64 * BAR as f64).round() as usize;
        let from = place(span.start_ns).min(BAR - 1);
        let to = place(span.end_ns).clamp(from + 1, BAR);
        format!("{}{}", " ".repeat(from), "▬".repeat(to - from))
    }

    fn details(&mut self, span: &Span, lead: &str, root: bool) {
        let listed = KEY_ATTRIBUTES
            .iter()
            .filter_map(|key| span.attributes.get_key_value(*key));
        let own = span.attributes.iter().filter(|(key, _)| key.starts_with("weir."));
        let pairs: Vec<String> = listed
            .chain(own)
            .map(|(key, value)| format!("{key}={}", clean(value)))
            .collect();
        self.wrapped(lead, &pairs);
        if let Some(error) = &span.error {
            let text = if error.is_empty() {
                "✗ error".to_owned()
            } else {
                format!("✗ error: {}", clean(error))
            };
            self.wrapped(lead, &[text]);
        }
        if let (true, Some(parent)) = (root, &span.parent_id) {
            self.wrapped(lead, &[format!("↑ parent {parent} is not among these spans")]);
        }
        for link in &span.links {
            let here = if link.trace_id == span.trace_id {
                "this trace"
            } else {
                &link.trace_id
            };
            self.wrapped(lead, &[format!("↗ link to span {} of {here}", link.span_id)]);
        }
    }

    /// Parts with two spaces between them, broken into lines that fit.
    fn wrapped(&mut self, lead: &str, parts: &[String]) {
        let room = WIDTH.saturating_sub(width(lead)).max(20);
        let mut line = String::new();
        for part in parts {
            let part = fit_end(part, room);
            if !line.is_empty() && width(&line) + 2 + width(&part) > room {
                self.put(&format!("{lead}{line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(&part);
        }
        if !line.is_empty() {
            self.put(&format!("{lead}{line}"));
        }
    }

    fn put(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Exactly `columns` wide: padded, or cut with an ellipsis.
fn fit(text: &str, columns: usize) -> String {
    format!("{:<columns$}", fit_end(text, columns))
}

fn fit_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    text.chars().take(columns - 1).chain(['…']).collect()
}

/// Names and values come from outside: nothing in them may move the cursor.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '·' } else { c })
        .collect()
}

/// A duration with three digits that count.
pub fn human(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000 => return format!("{nanos} ns"),
        1_000..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        ..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}
