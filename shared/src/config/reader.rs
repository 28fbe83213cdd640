//! Reads settings one by one and remembers everything that is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::value;

/// Where settings come from: the process's environment, or a map in a test.
pub trait Environment {
    /// A variable's value.
    fn get(&self, name: &str) -> Option<String>;
    /// The names of all variables.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Environment for Process {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect()
    }
}

impl Environment for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

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
const FAMILIES: [&str; 16] = [
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
    "WEIR_SCHEDULER_",
    "WEIR_PRIVATE_",
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

    /// The text of a setting, from `NAME` or from the file that `NAME_FILE` names. Empty counts as not set.
    fn raw(&mut self, name: &str) -> Option<String> {
        let file_name = format!("{name}_FILE");
        self.asked.insert(name.to_owned());
        self.asked.insert(file_name.clone());
        let direct = self.environment.get(name).filter(|v| !v.trim().is_empty());
        let file = self.environment.get(&file_name).filter(|v| !v.trim().is_empty());
        match (direct, file) {
            (Some(_), Some(_)) => {
                self.problem(name, format!("is set twice, directly and by {file_name}"));
                None
            }
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
                Err(error) => {
                    self.problem(
                        &file_name,
                        format!("names {path:?}, which cannot be read: {error}"),
                    );
                    None
                }
            },
            (direct, None) => direct.map(|text| text.trim().to_owned()),
        }
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
        self.problems.push(format!("{name} {what}"));
    }

    /// A setting read by `parse`, or `default` where it is not set or wrong.
    pub fn with<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        let value = match self.raw(name).map(|text| parse(&text)) {
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

    /// Text.
    pub fn text(&mut self, name: &str, default: &str) -> String {
        self.with(name, default.to_owned(), |text| Ok(text.to_owned()), Clone::clone)
    }

    /// Text that may be left out.
    pub fn optional(&mut self, name: &str) -> Option<String> {
        let shown = |v: &Option<String>| v.clone().unwrap_or_default();
        self.with(name, None, |text| Ok(Some(text.to_owned())), shown)
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
        self.with(name, default.to_owned(), parse, |url| without_password(url))
    }

    /// Text that must never be shown.
    pub fn secret(&mut self, name: &str) -> Option<String> {
        let shown = |v: &Option<String>| {
            if v.is_some() {
                "(set)".into()
            } else {
                String::new()
            }
        };
        self.with(name, None, |text| Ok(Some(text.to_owned())), shown)
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

    /// A comma-separated list, each part read by `parse`.
    pub fn list<T>(
        &mut self,
        name: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut problems = Vec::new();
        let text = self.text(name, default);
        let parts = value::list(&text);
        let read = parts.iter().filter_map(|part| match parse(part) {
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
            if ours && !self.asked.contains(&name) {
                let near = self
                    .asked
                    .iter()
                    .min_by_key(|asked| strsim::levenshtein(asked, &name));
                let hint = match near {
                    Some(near) if strsim::levenshtein(near, &name) <= 4 => format!(": did you mean {near}?"),
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
        self.0
            .iter()
            .try_for_each(|(name, value)| writeln!(f, "{name}={value}"))
    }
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

/// A URL with `***` for its password, if it holds one.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((login, host)) => match login.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{host}{path}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn all_problems_at_once_with_their_names() {
        let env = environment(&[
            ("WEIR_A_TIMEOUT", "soon"),
            ("WEIR_A_SIZE", "1GB"),
            ("WEIR_A_TIMEOUTS", "5s"),
            ("WEIR_A_KEY_FILE", "/nonexistent/key"),
            ("OTHER", "x"),
            ("WEIR_SERVCES", "x"),
            ("WEIR_INGEST_LISTEN", "another process checks it"),
        ]);
        let mut reader = Reader::new(&env);
        let second = Duration::from_secs(1);
        reader.duration("WEIR_A_TIMEOUT", second, second..=second);
        reader.bytes("WEIR_A_SIZE", 1, 1..=1024);
        reader.secret("WEIR_A_KEY");
        let Problems(lines) = reader.finish(&["WEIR_A_"], ()).unwrap_err();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[4].starts_with("WEIR_SERVCES is unknown"), "{lines:?}");
        assert!(
            lines[0].starts_with("WEIR_A_TIMEOUT cannot be read: \"soon\" is no duration"),
            "{lines:?}"
        );
        assert!(
            lines[1].contains("WEIR_A_SIZE") && lines[1].contains("not within 1 and 1024"),
            "{lines:?}"
        );
        assert!(
            lines[2].starts_with("WEIR_A_KEY_FILE names \"/nonexistent/key\""),
            "{lines:?}"
        );
        assert_eq!(
            lines[3],
            "WEIR_A_TIMEOUTS is unknown: did you mean WEIR_A_TIMEOUT?"
        );
    }

    #[test]
    fn secrets_are_never_shown() {
        let env = environment(&[("WEIR_URL", "redis://me:hunter2@h:1/0"), ("WEIR_KEY", "hunter2")]);
        let mut reader = Reader::new(&env);
        assert_eq!(
            reader.url("WEIR_URL", "redis://x", &["redis"]),
            "redis://me:hunter2@h:1/0"
        );
        assert_eq!(reader.secret("WEIR_KEY").as_deref(), Some("hunter2"));
        let ((), shown) = reader.finish(&["WEIR_"], ()).unwrap();
        assert_eq!(
            shown.to_string(),
            "WEIR_URL=redis://me:***@h:1/0\nWEIR_KEY=(set)\n"
        );
    }
}
