//! The buckets of a credential, found in a real Redis.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::BTreeSet;

use shared::connect;
use shared::limiter::{Ask, Charge, Limiter};
use shared::servers::{Redis, RedisOptions};

/// Takes one call from each of so many channels' buckets.
async fn use_channels(limiter: &Limiter, tag: &str, channels: usize) {
    let charges: Vec<Charge> = (0..channels)
        .map(|n| Charge {
            key: format!("{tag}:channel:C{n}").into(),
            rule: "1 per minute".parse().unwrap(),
            cost: 1,
            shadow: false,
        })
        .collect();
    let ask = Ask {
        calls: 1,
        ..Ask::default()
    };
    for some in charges.chunks(100) {
        assert_eq!(limiter.take(some, &[], &[], ask).await.unwrap().calls, 1);
    }
}

#[tokio::test]
async fn the_buckets_of_one_credential_are_found_and_no_others() {
    let scratch = tempfile::tempdir().unwrap();
    let redis = Redis::start(RedisOptions::new(scratch.path())).await.unwrap();
    let connection = connect::redis(&redis.url()).unwrap();
    let limiter = Limiter::new(connection, "test", true);
    // The second tag would match the first one's keys, were its brackets not taken as they are.
    for (tag, channels) in [("{slack:1a}", 1_200), ("{slack:[1]a}", 3), ("{github:1a}", 5)] {
        use_channels(&limiter, tag, channels).await;
    }
    limiter.workers("{slack:1a}:requests").await.unwrap();

    let found = limiter.keys("{slack:1a}", 5_000).await.unwrap();
    assert!(!found.cut);
    let keys: BTreeSet<_> = found.keys.iter().cloned().collect();
    let expected: BTreeSet<_> = (0..1_200).map(|n| format!("{{slack:1a}}:channel:C{n}")).collect();
    assert_eq!(keys, expected, "without what is no bucket");
    let few = limiter.keys("{slack:1a}", 1_000).await.unwrap();
    assert_eq!((few.keys.len(), few.cut), (1_000, true));
    assert_eq!(limiter.keys("{slack:[1]a}", 10).await.unwrap().keys.len(), 3);
    assert_eq!(limiter.keys("{slack:2b}", 10).await.unwrap().keys.len(), 0);

    let asked = [found.keys[0].clone(), "{slack:1a}:channel:never".to_owned()];
    let standings = limiter.standings("{slack:1a}", &asked).await.unwrap();
    let used = standings[0].as_ref().unwrap();
    assert!((used.state.as_ref().unwrap().total - 1.0).abs() < f64::EPSILON);
    assert!(used.born.is_some());
    assert_eq!(standings[1].as_ref().unwrap().state, None);
    let alone = limiter.standing(&found.keys[0]).await.unwrap();
    assert_eq!(alone.state, used.state);
}
