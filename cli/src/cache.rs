//! `weir cache`: lets the fleet forget what is cached, and shows how much there is and what it is worth.

mod worth;

use std::io::IsTerminal;

use serde_json::json;
use shared::cache::{Invalidations, What, redis_size};
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
        terminal::out(format_args!("dropped what has the {kind} {}", clean(named, 300)));
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
    if stats.json {
        terminal::out(json!({
            "redis": {"entries": entries, "bytes": bytes},
            "invalidations_remembered": remembered,
        }));
    } else {
        terminal::out(format_args!("Redis: {entries} answers, {bytes} bytes"));
        terminal::out(format_args!(
            "dropped lately: {remembered} keys, tags and patterns"
        ));
    }
    Ok(())
}
