//! The buckets that there are of one credential, for people who look.

use redis::Value;

use super::bucket::EPOCH;
use super::{Limiter, Saved, Standing, Unavailable, marker, name};

/// Keys that the server looks at in one step.
const STEP: usize = 1_000;
/// Most steps: what lies beyond is not looked at.
const MOST_STEPS: usize = 1_000;
/// Buckets read at once.
const BATCH: usize = 500;

/// Keys of buckets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// The keys, in no order.
    pub keys: Vec<String>,
    /// Whether there may be more.
    pub cut: bool,
}

impl Limiter {
    /// Keys of all buckets of the credential behind `tag`, at most `most`. It goes through all keys of Redis in steps
    /// that hold nobody up, and not through more than a million.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub async fn keys(&self, tag: &str, most: usize) -> Result<Keys, Unavailable> {
        let prefix = name(tag) + ":";
        let mut pattern = String::new();
        for c in prefix.chars() {
            if "*?[]\\".contains(c) {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push('*');
        let mut found = Keys::default();
        let mut cursor = 0_u64;
        for _ in 0..MOST_STEPS {
            let (next, keys): (u64, Vec<Value>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(STEP)
                .query_async(&mut self.redis.clone())
                .await?;
            // A key that is no text is none of ours.
            let texts = keys
                .into_iter()
                .filter_map(|key| redis::from_redis_value::<String>(key).ok());
            let ours = texts.filter_map(|key| key.strip_prefix("weir:").map(str::to_owned));
            let buckets = ours.filter(|key| {
                let rest = key.get(tag.len()..).unwrap_or_default();
                ![":born", ":workers"].contains(&rest)
            });
            found.keys.extend(buckets);
            cursor = next;
            if cursor == 0 || found.keys.len() > 2 * most {
                break;
            }
        }
        // A scan may name a key twice.
        found.keys.sort_unstable();
        found.keys.dedup();
        found.cut = cursor != 0 || found.keys.len() > most;
        found.keys.truncate(most);
        Ok(found)
    }

    /// How these buckets of the credential behind `tag` stand, in this order; `None` for one that cannot be read.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub async fn standings(&self, tag: &str, keys: &[String]) -> Result<Vec<Option<Standing>>, Unavailable> {
        let mut standings = Vec::with_capacity(keys.len());
        for keys in keys.chunks(BATCH) {
            let names: Vec<String> = keys.iter().map(|key| name(key)).collect();
            let (saved, mark, (seconds, micros)): (Vec<Saved>, Saved, (f64, f64)) = redis::pipe()
                .cmd("MGET")
                .arg(names)
                .get(marker(tag))
                .cmd("TIME")
                .query_async(&mut self.redis.clone())
                .await?;
            let now = seconds * 1e6 + micros - EPOCH;
            let born = mark.and_then(|mark| rmp_serde::from_slice::<(f64, String)>(&mark).ok());
            let born = born.map(|(born, _)| born);
            for saved in saved {
                let state = saved.map(|saved| rmp_serde::from_slice(&saved)).transpose();
                standings.push(state.ok().map(|state| Standing { state, now, born }));
            }
        }
        Ok(standings)
    }
}
