//! The settings of Postgres: `WEIR_POSTGRES_*`, the same for the whole fleet, and how many connections a process opens.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::config::Reader;
use crate::config::reader::without_password;

/// Most connections of one process, all of its pools together: Postgres comes with room for 100.
pub const MOST: u32 = 50;

/// How many connections a pool has: `5-20`, or `8` for at most eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Kept open while nobody needs them.
    pub least: u32,
    /// Open at once at most, 1 to [`MOST`].
    pub most: u32,
}

impl Size {
    /// Of a pool that is written over.
    pub const WRITE: Self = Self { least: 5, most: 20 };
    /// Of a pool that is read over.
    pub const READ: Self = Self { least: 10, most: 50 };
    /// Of a command that asks a question or two.
    pub const COMMAND: Self = Self { least: 0, most: 2 };
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.least, self.most)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not such as 20 or 5-20, at most {MOST}");
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
        let (least, most) = match text.split_once('-') {
            Some((least, most)) => (number(least)?, number(most)?),
            None => {
                let most = number(text)?;
                (most.min(Self::WRITE.least), most)
            }
        };
        if (1..=MOST).contains(&most) && least <= most {
            Ok(Self { least, most })
        } else {
            Err(wrong())
        }
    }
}

/// Where Postgres is and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `WEIR_POSTGRES_URL`; `None` where it is not set or `none`.
    pub url: Option<String>,
    /// `WEIR_POSTGRES_READ_URL`: a streaming replica that people's questions go to.
    pub read_url: Option<String>,
    /// `WEIR_POSTGRES_WRITE_TIMEOUT`: longest time of a statement that writes, kept by the server.
    pub write_timeout: Duration,
    /// `WEIR_POSTGRES_READ_TIMEOUT`: longest time of a question, kept by the server.
    pub read_timeout: Duration,
    /// `WEIR_POSTGRES_ACQUIRE_TIMEOUT`: longest wait for a connection.
    pub acquire_timeout: Duration,
    /// `WEIR_POSTGRES_RECYCLE`: age at which a connection is closed.
    pub recycle: Duration,
    /// `WEIR_POSTGRES_HEALTH`: pause between two looks at a pool.
    pub health: Duration,
    /// `WEIR_POSTGRES_LAG`: how far the replica may be behind.
    pub lag: Duration,
    /// `WEIR_POSTGRES_QUERY_CACHE`: for how long the answer of a report is kept; 0 for not at all.
    pub query_cache: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            url: None,
            read_url: None,
            write_timeout: second * 60,
            read_timeout: second * 30,
            acquire_timeout: second * 30,
            recycle: second * 3600,
            health: second * 30,
            lag: second * 10,
            query_cache: second * 300,
        }
    }
}

impl Settings {
    /// Prefix of the settings read here.
    pub const OWN: &'static str = "WEIR_POSTGRES_";

    /// Reads them. `required` is what is to be said where `WEIR_POSTGRES_URL` is missing; `none` stands for no database.
    pub fn read(reader: &mut Reader<'_>, required: Option<&str>) -> Self {
        let (second, default) = (Duration::from_secs(1), Self::default());
        let shown = |url: &String| without_password(url);
        let url = reader.with("WEIR_POSTGRES_URL", String::new(), postgres_url, shown);
        if let Some(what) = required
            && url.is_empty()
            && !reader.has_problem("WEIR_POSTGRES_URL")
        {
            reader.problem("WEIR_POSTGRES_URL", what);
        }
        let read_url = reader.with("WEIR_POSTGRES_READ_URL", String::new(), postgres_url, shown);
        let given = |url: String| Some(url).filter(|url| !url.is_empty() && url != "none");
        let mut span = |name: &str, default, from, to| reader.duration(name, default, from..=to);
        Self {
            url: given(url),
            read_url: given(read_url),
            write_timeout: span(
                "WEIR_POSTGRES_WRITE_TIMEOUT",
                default.write_timeout,
                second,
                second * 3600,
            ),
            read_timeout: span(
                "WEIR_POSTGRES_READ_TIMEOUT",
                default.read_timeout,
                second,
                second * 3600,
            ),
            acquire_timeout: span(
                "WEIR_POSTGRES_ACQUIRE_TIMEOUT",
                default.acquire_timeout,
                second,
                second * 600,
            ),
            recycle: span(
                "WEIR_POSTGRES_RECYCLE",
                default.recycle,
                second * 10,
                second * 86_400,
            ),
            health: span("WEIR_POSTGRES_HEALTH", default.health, second, second * 600),
            lag: span("WEIR_POSTGRES_LAG", default.lag, second, second * 3600),
            query_cache: span(
                "WEIR_POSTGRES_QUERY_CACHE",
                default.query_cache,
                Duration::ZERO,
                second * 86_400,
            ),
        }
    }
}

fn postgres_url(text: &str) -> Result<String, String> {
    if text == "none" || text.starts_with("postgres://") || text.starts_with("postgresql://") {
        Ok(text.to_owned())
    } else {
        Err("must begin with postgres:// (or be `none`)".into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Problems;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Problems> {
        let pairs = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let env: BTreeMap<_, _> = pairs.collect();
        let mut reader = Reader::new(&env);
        let settings = Settings::read(&mut reader, Some("is missing"));
        reader
            .finish(&[Settings::OWN], settings)
            .map(|(settings, _)| settings)
    }

    #[test]
    fn sizes_are_read_and_bounded() {
        for (text, least, most) in [
            ("8", 5, 8),
            ("3", 3, 3),
            ("5-20", 5, 20),
            ("0-50", 0, 50),
            (" 1 - 1 ", 1, 1),
        ] {
            assert_eq!(text.parse(), Ok(Size { least, most }), "{text}");
        }
        for bad in [
            "",
            "0",
            "51",
            "20-5",
            "5-51",
            "-5",
            "5-",
            "five",
            "5-20-30",
            "99999999999",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_documented() {
        let settings = read(&[("WEIR_POSTGRES_URL", "postgres://u:p@h/db")]).unwrap();
        assert_eq!(
            settings,
            Settings {
                url: Some("postgres://u:p@h/db".into()),
                ..Settings::default()
            }
        );
        assert_eq!(
            read(&[("WEIR_POSTGRES_URL", "none")]).unwrap(),
            Settings::default()
        );
    }

    #[test]
    fn every_wrong_one_is_named() {
        let Problems(lines) = read(&[
            ("WEIR_POSTGRES_READ_URL", "mysql://u:hunter2@h/db"),
            ("WEIR_POSTGRES_WRITE_TIMEOUT", "0s"),
            ("WEIR_POSTGRES_READ_TIMEOUT", "2h"),
            ("WEIR_POSTGRES_LAG", "10"),
            ("WEIR_POSTGRES_HEALTH", "100ms"),
            ("WEIR_POSTGRES_QUERY_CASHE", "5m"),
        ])
        .unwrap_err();
        for (setting, says) in [
            ("WEIR_POSTGRES_URL", "is missing"),
            ("WEIR_POSTGRES_READ_URL", "must begin with postgres://"),
            ("WEIR_POSTGRES_WRITE_TIMEOUT", "not within 1s"),
            ("WEIR_POSTGRES_READ_TIMEOUT", "not within 1s and 1h"),
            ("WEIR_POSTGRES_LAG", "no duration"),
            ("WEIR_POSTGRES_HEALTH", "not within 1s"),
            (
                "WEIR_POSTGRES_QUERY_CASHE",
                "did you mean WEIR_POSTGRES_QUERY_CACHE?",
            ),
        ] {
            assert!(
                lines.iter().any(|l| l.starts_with(setting) && l.contains(says)),
                "{setting}: {lines:#?}"
            );
        }
        assert!(!lines.concat().contains("hunter2"));
    }
}
