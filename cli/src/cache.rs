//! `weir cache`: lets the fleet forget what is cached, and shows how much there is and what it is worth.

mod worth;

use std::io::IsTerminal;

use serde_json::json;
use shared::cache::{Invalidations, Settings, What, redis_size};
use shared::config::{Environment, Process, Reader};
use shared::connect;

use crate::args::{Cache, CacheDrop, CacheStats};
use crate::failure::Failure;
use crate::fleet;
use crate::terminal::{self, clean};

pub(crate) async fn run(cache: Cache) -> Result<(), Failure> {
    match cache {
        Cache::Drop(drop) => self::drop(drop).await,
        Cache::Stats(stats) => self::stats(stats).await,
        Cache::Worth(worth) => Box::pin(worth::run(worth)).await,
    }
}

async fn drop(drop: CacheDrop) -> Result<(), Failure> {
    let Some(what) = drop.what.given() else {
        return Err(Failure::usage("give --key, --tag or --pattern"));
    };
    let everything = matches!(what, What::Pattern(pattern) if pattern.is_everything());
    let asks = everything && !drop.yes;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::usage(
            "--pattern: this one matches everything that is cached, all of which would have to be asked for again, and \
             there is nobody to ask: give --yes",
        ));
    }
    let reached = fleet::reach(&drop.fleet, None).await?;
    if asks && !confirmed().await? {
        return Err(Failure::failed("nothing was dropped"));
    }
    let invalidations = Invalidations::new(reached.js, reached.fleet.streams);
    let revision = invalidations.publish(what).await.map_err(Failure::failed)?;
    let (kind, named) = match what {
        What::Key(key) => ("key", key.as_str()),
        What::Tag(tag) => ("tag", tag.as_str()),
        What::Pattern(pattern) => ("pattern", pattern.as_str()),
    };
    if drop.json {
        terminal::out(json!({"dropped": {kind: named}, "revision": revision}));
    } else {
        terminal::out(format_args!(
            "what has the {kind} {} is used no more from now on (how much that is, is not counted)",
            clean(named, 300)
        ));
    }
    Ok(())
}

async fn confirmed() -> Result<bool, Failure> {
    terminal::note("Drop everything that is cached? All of it will have to be asked for again. Type yes:");
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = answer.await.map_err(Failure::failed)?;
    let line = line.map_err(Failure::at("reading the answer"))?;
    Ok(matches!(line.trim(), "yes" | "y"))
}

async fn stats(stats: CacheStats) -> Result<(), Failure> {
    let place = &stats.buckets;
    let reached = fleet::reach_all(&place.fleet, None, place.redis_url.as_deref()).await?;
    let remembered = Invalidations::new(reached.js, reached.fleet.streams)
        .count()
        .await
        .map_err(Failure::failed)?;
    let mut redis = connect::redis(&reached.redis_url).map_err(Failure::failed)?;
    let (entries, bytes) = redis_size(&mut redis)
        .await
        .map_err(Failure::at("asking Redis what is cached"))?;
    let most = most()?;
    if stats.json {
        terminal::out(json!({
            "redis": {"entries": entries, "bytes": bytes, "most_bytes": most},
            "invalidations_remembered": remembered,
        }));
        return Ok(());
    }
    let of = most.map_or_else(String::new, |most| format!(" of {most} (WEIR_CACHE_REDIS)"));
    terminal::out(format_args!("Redis: {entries} answers, {bytes} bytes{of}"));
    terminal::out(format_args!(
        "dropped lately: {remembered} keys, tags and patterns"
    ));
    if remembered > 0 && entries > 0 {
        terminal::note("what was dropped is used no more, and counts until it lapses or is overwritten");
    }
    Ok(())
}

/// How many bytes may lie in Redis, where `WEIR_CACHE_REDIS` is set here as it is for all processes of the fleet.
fn most() -> Result<Option<u64>, Failure> {
    let is_set = Process.get("WEIR_CACHE_REDIS");
    if is_set.is_none_or(|text| text.trim().is_empty()) {
        return Ok(None);
    }
    let mut reader = Reader::new(&Process);
    let settings = Settings::read(&mut reader);
    let (settings, _) = reader.finish(&[], settings).map_err(Failure::usage)?;
    Ok(Some(settings.redis))
}
