//! One fetch in the whole fleet, where that pays.

use std::time::Duration;

use futures_util::future::join_all;
use loadtest::fault::proxy::Mode;
use shared::cache::{Fetched, Fleet, IN_FLIGHT, Options, Place, Settings, Then, Wants};
use tokio::time::sleep;

use crate::world::{Fetches, World, everywhere, key, place, text, until, within};

fn once(wait: Duration, then: Then) -> Options<String> {
    Options {
        fleet: Some(Fleet { wait, then }),
        ..everywhere()
    }
}

fn lock(place: &str) -> String {
    place.replace(":entry:", ":lock:")
}

#[tokio::test]
async fn a_hundred_in_two_processes_make_one_fetch() {
    let world = World::new().await;
    let (a, b) = (world.process().await, world.process().await);
    let wait = Duration::from_secs(20);
    let spaces = [&a, &b].map(|process| process.space(once(wait, Then::Fail)));
    let fetches = Fetches::default();
    let all = (0..100).map(|n| {
        let (space, fetches) = (spaces[n % 2].clone(), fetches.clone());
        async move {
            let slowly = |_| async {
                sleep(Duration::from_millis(200)).await;
                Ok(Fetched::Fresh("value".to_owned().into()))
            };
            fetches.with(&space, "x", Wants::default(), slowly).await.unwrap()
        }
    });
    let all = within(join_all(all)).await;
    assert!(all.iter().all(|got| text(got) == "value"));
    assert_eq!(fetches.count(), 1);
    assert_eq!(all.iter().filter(|got| got.from == Place::Fetched).count(), 1);
    // Nobody holds what nobody needs.
    until("the lock is given back", async || {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(lock(&place(&key(&spaces[0], "x"))));
        !exists
            .query_async::<bool>(&mut world.redis.clone())
            .await
            .unwrap()
    })
    .await;
}

/// Who fetches fails: another does it, and not before.
#[tokio::test]
async fn a_fetch_that_fails_lets_the_next_process_try() {
    let world = World::new().await;
    let (a, b) = (world.process().await, world.process().await);
    let wait = Duration::from_secs(20);
    let (there, here) = (a.space(once(wait, Then::Fail)), b.space(once(wait, Then::Fail)));
    let fetches = Fetches::default();
    let fails = |_| async {
        sleep(Duration::from_millis(200)).await;
        Err(shared::failure::Failure::transient("http_500", ""))
    };
    let (failed, got) = tokio::join!(fetches.with(&there, "x", Wants::default(), fails), async {
        until("it is being fetched", async || fetches.count() == 1).await;
        fetches.get(&here, "x", "value").await
    });
    assert!(failed.is_err());
    assert_eq!((got.from, text(&got)), (Place::Fetched, "value"));
}

/// Another process has died with the lock.
#[tokio::test]
async fn who_waits_in_vain_does_what_the_space_says() {
    let world = World::new().await;
    let process = world.process_with(Settings::default()).await;
    let wait = Duration::from_millis(100);
    let fetches = Fetches::default();
    for (name, then) in [("fetch", Then::Fetch), ("fail", Then::Fail)] {
        let space = process.space(once(wait, then));
        let () = redis::cmd("SET")
            .arg(lock(&place(&key(&space, name))))
            .arg("somebody")
            .arg("PX")
            .arg(60_000)
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        let value = |_| async { Ok(Fetched::Fresh("value".to_owned().into())) };
        let got = fetches.with(&space, name, Wants::default(), value).await;
        match then {
            Then::Fetch => assert_eq!(text(&got.unwrap()), "value"),
            Then::Fail => assert_eq!(got.unwrap_err().failure.reason().code, IN_FLIGHT),
        }
    }
    assert_eq!(fetches.count(), 1);
    // Without Redis nobody can say whose turn it is: better twice than never.
    process.redis.mode(Mode::Refuse);
    let space = process.space(once(Duration::from_secs(3600), Then::Fail));
    assert_eq!(text(&fetches.get(&space, "away", "value").await), "value");
}
