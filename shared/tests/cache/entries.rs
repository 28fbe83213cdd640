//! How an entry lasts: fresh, stale, negative, asked for by its `etag`, refreshed before its end.

use std::time::Duration;

use shared::cache::{FETCHES, Fetched, Fresh, Options, Place, REFRESHES, Wants};
use shared::failure::Failure;
use tokio::time::sleep;

use crate::world::{Fetches, World, everywhere, in_redis, key, look, text, until, within};

fn etagged(value: &str) -> Fetched<String> {
    Fetched::Fresh(Fresh {
        etag: Some(format!("W/\"{value}\"")),
        ..value.to_owned().into()
    })
}

#[tokio::test]
async fn what_is_stale_is_given_while_it_is_fetched_anew() {
    let world = World::new().await;
    let process = world.process().await;
    let space = process.space(Options {
        fresh: Duration::from_millis(1),
        stale: Duration::from_secs(3600),
        beta: 0.0,
        ..everywhere()
    });
    let fetches = Fetches::default();
    fetches.get(&space, "x", "old").await;
    until("it is stale", async || {
        look(&space, "x").await.unwrap().age() > Duration::from_millis(1)
    })
    .await;
    let got = fetches.get(&space, "x", "new").await;
    assert_eq!((got.from, text(&got)), (Place::Memory, "old"));
    until("it is new", async || {
        text(&look(&space, "x").await.unwrap()) == "new"
    })
    .await;
    assert_eq!(fetches.count(), 2);
    assert_eq!(process.count(REFRESHES, &["stale"]), 1);
    // A refresh that fails leaves what there is.
    until("it is stale", async || {
        look(&space, "x").await.unwrap().age() > Duration::from_millis(1)
    })
    .await;
    let fails = |_| async { Err(Failure::transient("http_500", "")) };
    assert_eq!(
        text(&fetches.with(&space, "x", Wants::default(), fails).await.unwrap()),
        "new"
    );
    until("it has failed", async || process.count(FETCHES, &["failed"]) == 1).await;
    assert_eq!(text(&look(&space, "x").await.unwrap()), "new");
}

#[tokio::test]
async fn that_there_is_nothing_is_remembered_for_its_own_time() {
    let world = World::new().await;
    let (a, b) = (world.process().await, world.process().await);
    let options = || Options {
        negative: Duration::from_secs(3600),
        ..everywhere()
    };
    let (there, here, fetches) = (a.space(options()), b.space(options()), Fetches::default());
    let nothing = || Fetched::Absent(vec!["t".into()]);
    assert!(
        fetches
            .find(&there, "x", Wants::default(), nothing())
            .await
            .value
            .is_none()
    );
    until("it is in Redis", async || {
        look(&b.space(in_redis()), "x").await.is_some()
    })
    .await;
    let got = fetches.get(&here, "x", "value").await;
    assert_eq!((got.from, got.value), (Place::Redis, None));
    assert_eq!(fetches.count(), 1);
    let short = a.space(Options {
        negative: Duration::ZERO,
        ..everywhere()
    });
    for _ in 0..2 {
        assert!(
            fetches
                .find(&short, "y", Wants::default(), nothing())
                .await
                .value
                .is_none()
        );
    }
    assert_eq!(fetches.count(), 3);
}

/// Asked for with its `etag`, by whatever process; anew when it was invalidated, for then it may be wrong.
#[tokio::test]
async fn what_has_not_changed_is_not_fetched_again() {
    let world = World::new().await;
    let (a, b) = (world.process().await, world.process().await);
    let options = || Options {
        fresh: Duration::ZERO,
        kept: Duration::from_secs(3600),
        ..everywhere()
    };
    let (there, here, fetches) = (a.space(options()), b.space(options()), Fetches::default());
    fetches
        .find(&there, "x", Wants::default(), etagged("value"))
        .await;
    until("it is in Postgres", async || {
        a.count(shared::cache::FILLS, &["postgres"]) == 1
    })
    .await;
    for space in [&there, &here] {
        let unchanged = |known: Option<shared::cache::Known<String>>| async move {
            let known = known.unwrap();
            assert_eq!((known.etag(), &**known.value), (Some("W/\"value\""), "value"));
            Ok(Fetched::Unchanged(None))
        };
        let got = fetches
            .with(space, "x", Wants::default(), unchanged)
            .await
            .unwrap();
        assert_eq!((got.from, text(&got)), (Place::Fetched, "value"));
    }
    assert_eq!(
        a.count(FETCHES, &["unchanged"]) + b.count(FETCHES, &["unchanged"]),
        2
    );
    within(a.levels.invalidate(&shared::cache::What::Key(key(&there, "x"))))
        .await
        .unwrap();
    let anew = |known: Option<shared::cache::Known<String>>| async move {
        assert!(known.is_none());
        Ok(etagged("another"))
    };
    let got = fetches.with(&there, "x", Wants::default(), anew).await.unwrap();
    assert_eq!(text(&got), "another");
    // Whoever says so of nothing is wrong.
    let said = fetches.with(&there, "y", Wants::default(), |_| async {
        Ok(Fetched::Unchanged(None))
    });
    assert_eq!(said.await.unwrap_err().failure.reason().code, "cache_unchanged");
}

#[tokio::test]
async fn what_is_dear_and_near_its_end_is_fetched_before_it() {
    let world = World::new().await;
    let process = world.process().await;
    // So eager that each reader refreshes.
    let space = process.space(Options {
        beta: 1e12,
        ..everywhere()
    });
    let fetches = Fetches::default();
    let slowly = |_| async {
        sleep(Duration::from_millis(5)).await;
        Ok(Fetched::Fresh("old".to_owned().into()))
    };
    fetches.with(&space, "x", Wants::default(), slowly).await.unwrap();
    let got = fetches.get(&space, "x", "new").await;
    assert_eq!((got.from, text(&got)), (Place::Memory, "old"));
    until("it is new", async || {
        text(&look(&space, "x").await.unwrap()) == "new"
    })
    .await;
    assert_eq!(process.count(REFRESHES, &["early"]), 1);
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_only_given() {
    let world = World::new().await;
    let process = world.process().await;
    let (space, fetches) = (process.space(everywhere()), Fetches::default());
    for n in 1..=2 {
        let got = fetches
            .find(&space, "x", Wants::default(), Fetched::NotKept("value".into()))
            .await;
        assert_eq!((text(&got), fetches.count()), ("value", n));
    }
    // An answer's own time goes before the space's.
    let short = Fetched::Fresh(Fresh {
        ttl: Some(Duration::ZERO),
        ..String::from("value").into()
    });
    fetches.find(&space, "y", Wants::default(), short).await;
    assert!(look(&space, "y").await.is_none());
}
