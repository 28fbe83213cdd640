//! How large the levels are, and how long they are waited for.

use std::time::Duration;

use crate::config::Reader;

/// Settings of a process's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `WEIR_CACHE_MEMORY`: most bytes of the first level, of this process alone.
    pub memory: u64,
    /// `WEIR_CACHE_REDIS`: most bytes of the second level, of the whole fleet. Redis holds the limits too and refuses to
    /// take more than its `maxmemory`: leave room for them. All processes must say the same; 0 uses none.
    pub redis: u64,
    /// `WEIR_CACHE_POSTGRES`: most bytes of the third level, of the whole fleet, and a sixteenth of that more for each
    /// process; 0 uses none.
    pub postgres: u64,
    /// `WEIR_CACHE_MAX_VALUE`: most bytes of a value; larger ones are not cached.
    pub max_value: u64,
    /// `WEIR_CACHE_REDIS_PATIENCE`: longest wait for Redis; then it is a miss.
    pub redis_patience: Duration,
    /// `WEIR_CACHE_POSTGRES_PATIENCE`: longest wait for Postgres; then it is a miss.
    pub postgres_patience: Duration,
    /// `WEIR_CACHE_DEAF_AFTER`: when invalidations have not been heard for so long, all is a miss: as long at most can an
    /// entry be used after somebody has said that it is invalid.
    pub deaf_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            redis: 64 << 20,
            postgres: 1 << 30,
            max_value: 1 << 20,
            redis_patience: Duration::from_millis(100),
            postgres_patience: Duration::from_millis(200),
            deaf_after: Duration::from_secs(3),
        }
    }
}

impl Settings {
    /// How their names begin.
    pub const OWN: &'static str = "WEIR_CACHE_";

    /// Reads them.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let defaults = Self::default();
        let (ms, second) = (Duration::from_millis(1), Duration::from_secs(1));
        Self {
            memory: reader.bytes("WEIR_CACHE_MEMORY", defaults.memory, 1 << 20..=1 << 40),
            redis: reader.bytes("WEIR_CACHE_REDIS", defaults.redis, 0..=1 << 40),
            postgres: reader.bytes("WEIR_CACHE_POSTGRES", defaults.postgres, 0..=1 << 44),
            max_value: reader.bytes("WEIR_CACHE_MAX_VALUE", defaults.max_value, 1 << 10..=64 << 20),
            redis_patience: reader.duration(
                "WEIR_CACHE_REDIS_PATIENCE",
                defaults.redis_patience,
                ms..=second * 5,
            ),
            postgres_patience: reader.duration(
                "WEIR_CACHE_POSTGRES_PATIENCE",
                defaults.postgres_patience,
                ms..=second * 5,
            ),
            // Shorter than the server's word that there is nothing new takes, everything would be a miss.
            deaf_after: reader.duration(
                "WEIR_CACHE_DEAF_AFTER",
                defaults.deaf_after,
                second * 2..=second * 60,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(name: &str, value: &str) -> Result<Settings, String> {
        let env = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let mut reader = Reader::new(&env);
        let settings = Settings::read(&mut reader);
        reader
            .finish(&[Settings::OWN], settings)
            .map(|(settings, _)| settings)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn settings_are_read_and_what_makes_no_sense_is_told_by_name() {
        assert_eq!(read("WEIR_CACHE_REDIS", "0").unwrap().redis, 0);
        assert_eq!(
            read("WEIR_CACHE_MEMORY", "64MB").unwrap().memory,
            crate::config::value::bytes("64MB").unwrap()
        );
        for (name, bad) in [
            ("WEIR_CACHE_MEMORY", "1"),
            ("WEIR_CACHE_MEMORY", "-1"),
            ("WEIR_CACHE_REDIS", "lots"),
            ("WEIR_CACHE_MAX_VALUE", "1GB"),
            ("WEIR_CACHE_REDIS_PATIENCE", "0s"),
            ("WEIR_CACHE_POSTGRES_PATIENCE", "1m"),
            ("WEIR_CACHE_DEAF_AFTER", "1s"),
        ] {
            let said = read(name, bad).unwrap_err();
            assert!(said.contains(name), "{name}={bad}: {said}");
        }
    }
}
