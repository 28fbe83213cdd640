//! One fetch for all who want the same, whatever becomes of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use loadtest::fault::proxy::Mode;
use shared::cache::{FETCHES, Fetched, JOINED, Options, PANICKED, Place, TIMED_OUT, Wants};
use shared::event::Tenant;
use shared::failure::Failure;
use tokio::sync::{Notify, Semaphore};

use crate::world::{Fetches, World, everywhere, in_redis, place, text, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_who_miss_the_same_make_one_fetch() {
    let world = World::new().await;
    let process = world.process().await;
    for (round, options) in [everywhere(), in_redis()].into_iter().enumerate() {
        let (space, fetches) = (process.space(options), Fetches::default());
        let name = format!("x{round}");
        let all = (0..100).map(|_| {
            let (space, fetches, name) = (space.clone(), fetches.clone(), name.clone());
            tokio::spawn(async move {
                let slowly = |_| async {
                    tokio::task::yield_now().await;
                    Ok(Fetched::Fresh("value".to_owned().into()))
                };
                fetches
                    .with(&space, &name, Wants::default(), slowly)
                    .await
                    .unwrap()
            })
        });
        let all: Vec<_> = join_all(all).await.into_iter().map(Result::unwrap).collect();
        assert!(all.iter().all(|got| text(got) == "value"));
        assert_eq!(fetches.count(), 1);
    }
    assert!(process.count(JOINED, &[]) > 0);
}

#[tokio::test]
async fn a_fetch_that_panics_or_fails_or_hangs_leaves_nobody_waiting_and_nothing_behind() {
    let world = World::new().await;
    let process = world.process().await;
    let space = process.space(Options {
        longest: Duration::from_millis(100),
        ..everywhere()
    });
    for (name, code) in [
        ("panic", PANICKED),
        ("early", PANICKED),
        ("fail", "http_500"),
        ("hang", TIMED_OUT),
    ] {
        let go = Arc::new(Semaphore::new(0));
        let fetches = Fetches::default();
        let ends = || {
            let go = Arc::clone(&go);
            move |_| {
                assert!(name != "early", "before there is anything to wait for");
                async move {
                    if name != "hang" {
                        let _ = go.acquire().await;
                    }
                    match name {
                        "panic" => panic!("on purpose"),
                        "fail" => Err(Failure::transient("http_500", "")),
                        _ => std::future::pending().await,
                    }
                }
            }
        };
        let waiting = (0..10).map(|_| fetches.with(&space, name, Wants::default(), ends()));
        let (all, ()) = tokio::join!(join_all(waiting), async {
            until("one fetches", async || fetches.count() == 1).await;
            go.add_permits(1);
        });
        let ours = all.iter().filter(|got| !got.as_ref().unwrap_err().joined).count();
        for got in &all {
            assert_eq!(got.as_ref().unwrap_err().failure.reason().code, code, "{name}");
        }
        assert_eq!((ours, fetches.count()), (1, 1), "{name}");
        assert_eq!(
            fetches.get(&space, name, "value").await.from,
            Place::Fetched,
            "{name}"
        );
    }
    assert_eq!(process.count(FETCHES, &["panicked"]), 2);
}

/// It goes on: it may be paid for, and others wait for it.
#[tokio::test]
async fn a_fetch_goes_on_when_whoever_began_it_has_gone() {
    let world = World::new().await;
    let process = world.process().await;
    let (space, fetches, go) = (
        process.space(everywhere()),
        Fetches::default(),
        Arc::new(Notify::new()),
    );
    let fetch = {
        let go = Arc::clone(&go);
        move |_| async move {
            go.notified().await;
            Ok(Fetched::Fresh("value".to_owned().into()))
        }
    };
    let first = {
        let (space, fetches) = (space.clone(), fetches.clone());
        tokio::spawn(async move { fetches.with(&space, "x", Wants::default(), fetch).await })
    };
    until("it has begun", async || fetches.count() == 1).await;
    let second = {
        let (space, fetches) = (space.clone(), fetches.clone());
        tokio::spawn(async move { fetches.get(&space, "x", "other").await })
    };
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    go.notify_one();
    let got = within(second).await.unwrap();
    assert_eq!((text(&got), fetches.count()), ("value", 1));
}

/// Who looks for all in a level that hangs, and goes, lets another look and fetch.
#[tokio::test]
async fn whoever_goes_before_there_was_a_fetch_takes_nobody_with_them() {
    let world = World::new().await;
    let process = world.process().await;
    let (space, fetches) = (process.space(in_redis()), Fetches::default());
    process.redis.mode(Mode::Hold);
    let asks = |value: &'static str| {
        let (space, fetches) = (space.clone(), fetches.clone());
        tokio::spawn(async move { fetches.get(&space, "x", value).await })
    };
    let first = asks("first");
    // This runtime has one thread: whoever is let run goes on to where it waits.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let second = asks("second");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    first.abort();
    let _ = first.await;
    process.redis.heal();
    let got = within(second).await.unwrap();
    assert_eq!(text(&got), "second");
    assert_eq!(fetches.count(), 1);
}

#[tokio::test]
async fn tenants_never_see_each_others() {
    let world = World::new().await;
    let (a, b) = (world.process().await, world.process().await);
    let tenants =
        [None, Some("acme"), Some("bolt"), Some("-")].map(|name| name.map(|name| Tenant::new(name).unwrap()));
    for process in [&a, &b] {
        let space = process.space(everywhere());
        for (n, tenant) in tenants.iter().enumerate() {
            let key = space.key(tenant.as_ref(), "x").unwrap();
            let value = format!("of {n}");
            let fetch = {
                let value = value.clone();
                |_| async move { Ok::<_, Failure>(Fetched::Fresh(value.into())) }
            };
            let got = within(space.get_or_fetch(&key, Wants::default(), fetch))
                .await
                .unwrap();
            assert_eq!(text(&got), value);
            until("it is in Redis", async || {
                b.space(in_redis())
                    .look(&key, Wants::default())
                    .await
                    .usable()
                    .is_some()
            })
            .await;
        }
    }
    assert_eq!(a.count(FETCHES, &["fresh"]) + b.count(FETCHES, &["fresh"]), 4);
    // Where somebody has put another's entry in the place of one's own, it is nobody's.
    let space = b.space(in_redis());
    let keys = [0, 1].map(|n| space.key(tenants[n].as_ref(), "x").unwrap());
    let () = redis::cmd("COPY")
        .arg(place(&keys[0]))
        .arg(place(&keys[1]))
        .arg("REPLACE")
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    assert!(space.look(&keys[1], Wants::default()).await.usable().is_none());
}
