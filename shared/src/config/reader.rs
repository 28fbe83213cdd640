//! Reads settings one by one and remembers everything that is wrong with them.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::environment::{Environment, Lines, checked, is_blank, quoted, read_bounded};
use super::value;

/// Most parts of a list: a service has a stream and a pool of its own, and a source a route.
pub const MAX_PARTS: usize = 1000;
/// Most characters of what is told of one problem: a value may be long, and its beginning says which one it is.
const MAX_TOLD: usize = 500;
/// Letters in which a misspelt name may differ from the one that was meant.
const MISSPELT: usize = 4;

/// Everything that is wrong with the settings, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<String>);

impl Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        write!(f, "{n} setting{} wrong:", if n == 1 { " is" } else { "s are" })?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Every setting of the fleet begins with one of these; a `WEIR_*` variable that does not is a misspelt one.
const FAMILIES: [&str; 19] = [
    "WEIR_NATS_",
    "WEIR_REDIS_",
    "WEIR_POSTGRES_",
    "WEIR_SERVICES",
    "WEIR_SERVICE_",
    "WEIR_STREAM_",
    "WEIR_DEAD_",
    "WEIR_LOG",
    "WEIR_SHUTDOWN_",
    "WEIR_INGEST_",
    "WEIR_SOURCE",
    "WEIR_TOKENS",
    "WEIR_WORKER_",
    "WEIR_LIMITS_",
    "WEIR_RULES",
    "WEIR_SCHEDULER_",
    "WEIR_PRIVATE_",
    "WEIR_CACHE_",
    "WEIR_WARM",
];

/// Reads settings; ask it for all of them, then [`finish`](Self::finish).
pub struct Reader<'e> {
    environment: &'e dyn Environment,
    problems: Vec<String>,
    asked: BTreeSet<String>,
    foreign: Vec<String>,
    shown: Vec<(String, String)>,
}

impl<'e> Reader<'e> {
    /// A reader of this environment.
    pub fn new(environment: &'e dyn Environment) -> Self {
        Self {
            environment,
            problems: Vec::new(),
            asked: BTreeSet::new(),
            foreign: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// The text of a setting, from `NAME` or from the file that `NAME_FILE` names. Empty counts as not set. Lists and
    /// secrets may have several lines, above all in files.
    fn raw(&mut self, name: &str, lines: Lines) -> Option<String> {
        let file_name = format!("{name}_FILE");
        let again = !self.asked.insert(name.to_owned());
        self.asked.insert(file_name.clone());
        let direct = self.environment.raw(name).filter(|value| !is_blank(value));
        let file = self.environment.raw(&file_name).filter(|value| !is_blank(value));
        if again && (direct.is_some() || file.is_some()) && !self.has_problem(name) {
            // A service `a` with the setting `B_C`, and a service `a-b` with the setting `C`.
            self.problem(name, "means two things: rename one of those that it is about");
            return None;
        }
        let (at, bytes) = match (direct, file) {
            (Some(_), Some(_)) => {
                self.problem(name, format!("is set twice, directly and by {file_name}"));
                return None;
            }
            (None, Some(path)) => match read_bounded(path.as_ref()) {
                Ok(bytes) => (file_name.as_str(), bytes),
                Err(error) => {
                    self.problem(
                        &file_name,
                        format!("names {}, which cannot be read: {error}", quoted(&path)),
                    );
                    return None;
                }
            },
            (Some(direct), None) => (name, direct.into_encoded_bytes()),
            (None, None) => return None,
        };
        match checked(bytes, lines) {
            Ok(text) => Some(text).filter(|text| !text.is_empty()),
            Err(what) => {
                self.problem(at, what);
                None
            }
        }
    }

    /// A path in a variable that is none of ours.
    pub fn raw_path(&self, name: &str) -> Option<PathBuf> {
        let path = self.environment.raw(name).filter(|value| !is_blank(value))?;
        Some(path.into())
    }

    /// Settings that begin like this are for another process of the fleet, which checks them.
    pub fn foreign(&mut self, prefix: String) {
        self.foreign.push(prefix);
    }

    /// Whether a setting is known to be wrong already.
    pub fn has_problem(&self, name: &str) -> bool {
        self.problems
            .iter()
            .any(|line| line.split(' ').next() == Some(name))
    }

    /// Tells that a setting is wrong.
    pub fn problem(&mut self, name: &str, what: impl Display) {
        // One line each and no control characters, whatever stands in the settings: it goes to a terminal.
        let told = format!("{name} {what}");
        let mut line: String = told.chars().take(MAX_TOLD).map(printable).collect();
        if line.len() < told.len() && told.chars().nth(MAX_TOLD).is_some() {
            line.push('…');
        }
        self.problems.push(line);
    }

    /// A setting read by `parse`, or `default` where it is not set or wrong.
    pub fn with<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        self.lines(name, Lines::Several, default, parse, show)
    }

    fn lines<T>(
        &mut self,
        name: &str,
        lines: Lines,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        let value = match self.raw(name, lines).map(|text| parse(&text)) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(what)) => {
                self.problem(name, format!("cannot be read: {what}"));
                default
            }
        };
        self.shown.push((name.to_owned(), show(&value)));
        value
    }

    /// A setting of a type that reads and shows itself.
    pub fn parsed<T: FromStr<Err: Display> + Display>(&mut self, name: &str, default: T) -> T {
        self.with(
            name,
            default,
            |text| text.parse().map_err(|e: T::Err| e.to_string()),
            T::to_string,
        )
    }

    /// One line of text.
    pub fn text(&mut self, name: &str, default: &str) -> String {
        let parse = |text: &str| Ok(text.to_owned());
        self.lines(name, Lines::One, default.to_owned(), parse, Clone::clone)
    }

    /// One line of text that may be left out.
    pub fn optional(&mut self, name: &str) -> Option<String> {
        let shown = |v: &Option<String>| v.clone().unwrap_or_default();
        self.lines(name, Lines::One, None, |text| Ok(Some(text.to_owned())), shown)
    }

    /// A URL with one of these schemes. Shown without its password.
    pub fn url(&mut self, name: &str, default: &str, schemes: &[&str]) -> String {
        let parse = |text: &str| {
            let scheme = text.split("://").next().unwrap_or_default();
            if text.contains("://") && schemes.contains(&scheme) {
                Ok(text.to_owned())
            } else {
                Err(format!("must begin with {}://", schemes.join(":// or ")))
            }
        };
        let shown = |url: &String| without_password(url);
        self.lines(name, Lines::One, default.to_owned(), parse, shown)
    }

    /// Text that must never be shown.
    pub fn secret(&mut self, name: &str) -> Option<String> {
        self.hidden(name, Lines::Several)
    }

    /// One line of text that must never be shown: what goes into a header, for example a bearer token.
    pub fn secret_line(&mut self, name: &str) -> Option<String> {
        self.hidden(name, Lines::One)
    }

    fn hidden(&mut self, name: &str, lines: Lines) -> Option<String> {
        let shown = |v: &Option<String>| {
            if v.is_some() {
                "(set)".into()
            } else {
                String::new()
            }
        };
        self.lines(name, lines, None, |text| Ok(Some(text.to_owned())), shown)
    }

    /// A duration within bounds.
    pub fn duration(&mut self, name: &str, default: Duration, bounds: RangeInclusive<Duration>) -> Duration {
        let parse = |text: &str| within(value::duration(text)?, &bounds, |d| value::show_duration(*d));
        self.with(name, default, parse, |d| value::show_duration(*d))
    }

    /// A whole number within bounds.
    pub fn number(&mut self, name: &str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let parse = |text: &str| {
            let number = text.parse().map_err(|_| format!("{text:?} is no whole number"))?;
            within(number, &bounds, u64::to_string)
        };
        self.with(name, default, parse, u64::to_string)
    }

    /// A size in bytes within bounds.
    pub fn bytes(&mut self, name: &str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let parse = |text: &str| within(value::bytes(text)?, &bounds, u64::to_string);
        self.with(name, default, parse, u64::to_string)
    }

    /// A comma-separated list of at most [`MAX_PARTS`], each part read by `parse`. None may stand there twice.
    pub fn list<T>(
        &mut self,
        name: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut problems = Vec::new();
        let several = |text: &str| Ok(value::list(text));
        let parts = self.with(name, value::list(default), several, |parts| parts.join(","));
        if parts.len() > MAX_PARTS {
            self.problem(name, format!("has {} parts, more than {MAX_PARTS}", parts.len()));
            return Vec::new();
        }
        let mut seen = BTreeSet::new();
        let read = parts.iter().filter_map(|part| match parse(part) {
            Ok(_) if !seen.insert(part) => {
                problems.push(format!("names {part} twice"));
                None
            }
            Ok(value) => Some(value),
            Err(what) => {
                problems.push(format!("has {part:?}, which {what}"));
                None
            }
        });
        let read = read.collect();
        for what in problems {
            self.problem(name, what);
        }
        read
    }

    /// Ends the reading. Settings that begin with one of `own` and that nobody asked for are problems as well, and so
    /// is a `WEIR_*` variable of no process: a misspelt setting must not be silently without effect.
    pub fn finish<T>(mut self, own: &[&str], value: T) -> Result<(T, Shown), Problems> {
        for name in self.environment.names() {
            let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
            let foreign = self.foreign.iter().any(|prefix| name.starts_with(prefix));
            let ours = starts(own) && !foreign || name.starts_with("WEIR_") && !starts(&FAMILIES);
            // Empty is as if not set, here too.
            let set = self.environment.raw(&name).is_some_and(|value| !is_blank(&value));
            if ours && set && !self.asked.contains(&name) {
                let length = name.chars().count();
                let near = self
                    .asked
                    .iter()
                    .filter(|asked| asked.len().abs_diff(length) <= MISSPELT)
                    .map(|asked| (strsim::levenshtein(asked, &name), asked))
                    .min();
                let hint = match near {
                    Some((distance, near)) if distance <= MISSPELT => format!(": did you mean {near}?"),
                    _ if name.starts_with("WEIR_SERVICE_") => {
                        ": WEIR_SERVICES names no service that has it".to_owned()
                    }
                    _ => String::new(),
                };
                self.problem(&name, format!("is unknown{hint}"));
            }
        }
        if self.problems.is_empty() {
            Ok((value, Shown(self.shown)))
        } else {
            Err(Problems(self.problems))
        }
    }
}

/// The settings in effect, without secrets, one `NAME=value` a line.
#[derive(Debug, Clone)]
pub struct Shown(Vec<(String, String)>);

impl Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| {
            let line: String = value.chars().map(printable).collect();
            writeln!(f, "{name}={line}")
        })
    }
}

fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

fn within<T: PartialOrd>(
    value: T,
    bounds: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, String> {
    if bounds.contains(&value) {
        Ok(value)
    } else {
        Err(format!(
            "{} is not within {} and {}",
            show(&value),
            show(bounds.start()),
            show(bounds.end())
        ))
    }
}

/// A URL with `***` for what may be a secret in it: the password, or, for NATS, the token that stands alone before the
/// host, and what a parameter such as `password` says. A password that should have been percent-encoded and holds a `/` or
/// a `?` is none the less not shown.
pub fn without_password(url: &str) -> String {
    let url = without_login(url);
    let Some((address, query)) = url.split_once('?') else {
        return url;
    };
    let shown = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}=***"),
        _ => part.to_owned(),
    });
    format!("{address}?{}", shown.collect::<Vec<_>>().join("&"))
}

fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // No URL, and what it is nobody knows.
        return if url.contains('@') {
            "***".into()
        } else {
            url.to_owned()
        };
    };
    let Some((login, host)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    let token = matches!(scheme, "nats" | "tls");
    match login.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None if token => format!("{scheme}://***@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
