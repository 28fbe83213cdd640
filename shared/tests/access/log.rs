//! Written and read back.

use std::collections::BTreeMap;

use shared::access::read::{find, services, what as read_what};
use shared::access::write::{MOST_KEYS, forget_old};
use shared::access::{Found, MAX_REQUEST, Notes, Share};
use shared::event::Data;

use crate::world::{access, all, digest, github, now_ms, what, world};

#[tokio::test]
async fn what_is_written_is_read_back_the_same_and_then_the_news() {
    let world = world().await;
    let mut one = world.worker("one", Share::ALL);
    let mut other = world.worker("other", Share::ALL);
    let mut reader = world.since(now_ms() - 60_000);
    assert_eq!(all(&mut reader).await, []);
    let mut written = Vec::new();
    // More than a row has, all levels.
    for n in 0..20_000_u32 {
        let name = format!("/repos/octo/{}", n % 100);
        let mut access = access(&name, Found::ALL[n as usize % 5]);
        access.repository = n.is_multiple_of(3).then(|| u64::from(n % 7));
        let worker = if n.is_multiple_of(2) { &one } else { &other };
        worker.note(&name, access);
        written.push(access);
    }
    one.writer.flush().await;
    other.writer.flush().await;
    let order =
        |access: &shared::access::Access| (access.at_ms, access.key, access.found as u8, access.repository);
    let mut read = all(&mut reader).await;
    read.sort_by_key(order);
    written.sort_by_key(order);
    assert!(read == written, "{} of {}", read.len(), written.len());
    assert_eq!(world.number("SELECT count(*) FROM access_log").await, 4);
    assert_eq!(all(&mut reader).await, [], "nothing is read twice");
    // News, the empty flush between them among it.
    for n in 0..3 {
        one.writer.flush().await;
        let news = access("/zen", Found::Redis);
        one.note("/zen", news);
        one.writer.flush().await;
        assert_eq!(all(&mut reader).await, [news], "{n}");
    }
    // A new leader reads the same, and no more than it wants.
    assert_eq!(all(&mut world.since(0)).await.len(), 20_003);
    assert_eq!(all(&mut world.since(now_ms() + 60_000)).await, []);
    assert_eq!(one.count(shared::access::NOTED, ""), 10_003);
    assert_eq!(one.count(shared::access::ROWS, ""), 5);
}

#[tokio::test]
async fn what_to_fetch_is_found_by_key_and_by_name() {
    let world = world().await;
    let mut worker = world.worker("one", Share::ALL);
    let names = ["/repos/Octo/a", "/repos/octo/b", "/zen"];
    for name in names {
        worker.note(name, access(name, Found::Nowhere));
        worker.note(name, access(name, Found::Memory));
    }
    // Nothing that could be fetched, and nothing that is too long.
    let long = "x".repeat(MAX_REQUEST);
    worker
        .notes
        .note(&github(), digest("long"), access("long", Found::Nowhere), || {
            let asked = shared::access::Asked {
                kind: "call".into(),
                data: Data::json(long.clone()),
            };
            shared::access::What::new("long", None, asked)
        });
    worker.writer.flush().await;
    assert_eq!(worker.dropped("key_large"), 1);
    let ids = ["/zen", "/repos/Octo/a", "long", "unknown"].map(|name| digest(name).id());
    let found: BTreeMap<_, _> = read_what(&world.pool, &github(), &ids)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let expected = ["/zen", "/repos/Octo/a"].map(|name| (digest(name), what(name)));
    assert_eq!(found, expected.into());
    assert_eq!(found[&digest("/zen")].asked().unwrap().kind, "call");
    let slack = shared::subject::Service::new("slack").unwrap();
    assert_eq!(read_what(&world.pool, &slack, &ids).await.unwrap(), []);
    assert_eq!(services(&world.pool).await.unwrap(), [github()]);
    for (part, names) in [
        ("OCTO/", &names[..2]),
        ("zen", &names[2..]),
        ("_e", &[]),
        ("%", &[]),
        ("\0", &[]),
    ] {
        let mut found = find(&world.pool, &github(), part, 10).await.unwrap();
        found.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        assert!(
            found.iter().map(|(_, what)| &what.name).eq(names),
            "{part}: {found:?}"
        );
    }
    assert_eq!(find(&world.pool, &github(), "o", 1).await.unwrap().len(), 1);
    // Rows that are none of ours.
    world
        .run(
            "INSERT INTO access_keys SELECT 'github', d, 'odd', t, '\\x00', now()
             FROM (VALUES ('\\x01'::bytea, NULL), (sha256('a'), 'no tenant')) AS odd (d, t)",
        )
        .await;
    assert_eq!(find(&world.pool, &github(), "odd", 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_key_is_noted_whole_or_not_at_all_by_every_worker() {
    let world = world().await;
    let share: Share = "30%".parse().unwrap();
    let mut workers = [world.worker("one", share), world.worker("other", share)];
    for round in 0..4 {
        for n in 0..500 {
            let name = format!("/{n}");
            workers[(round + n) % 2].note(&name, access(&name, Found::Memory));
        }
    }
    for worker in &mut workers {
        worker.writer.flush().await;
    }
    let mut times = BTreeMap::new();
    for access in all(&mut world.since(0)).await {
        *times.entry(access.key).or_insert(0) += 1;
    }
    assert!((100..200).contains(&times.len()), "{}", times.len());
    assert!(times.values().all(|times| *times == 4));
    let keys: Vec<u64> = times.into_keys().collect();
    assert_eq!(
        read_what(&world.pool, &github(), &keys).await.unwrap().len(),
        keys.len()
    );
    Notes::off().note(&github(), digest("/"), access("/", Found::Memory), || {
        unreachable!("nobody asks")
    });
}

#[tokio::test]
async fn a_row_that_is_committed_late_is_not_missed_and_a_broken_one_is_left_out() {
    let world = world().await;
    let mut worker = world.worker("one", Share::ALL);
    let mut reader = world.since(0);
    let (late, soon) = (access("late", Found::Redis), access("soon", Found::Redis));
    // A row that is begun first and ends last.
    let packed = shared::access::pack::pack(&[late]).0;
    let mut begun = world.pool.begin().await.unwrap();
    sqlx::query("INSERT INTO access_log VALUES ('github', now(), 'b', 'w', 0, 0, 1, 1, $1)")
        .bind(packed)
        .execute(&mut *begun)
        .await
        .unwrap();
    worker.note("soon", soon);
    worker.writer.flush().await;
    assert_eq!(all(&mut reader).await, [soon]);
    begun.commit().await.unwrap();
    assert_eq!(all(&mut reader).await, [late]);
    assert_eq!(all(&mut reader).await, []);
    world
        .run("INSERT INTO access_log VALUES ('github', now(), 'x', 'w', 0, 0, 1, 1, '\\x0102')")
        .await;
    worker.note("soon", soon);
    worker.writer.flush().await;
    let step = reader.next().await.unwrap();
    assert_eq!(
        (step.accesses, step.undecodable, step.more),
        (vec![soon], 1, true)
    );
    assert_eq!(all(&mut reader).await, []);
}

#[tokio::test]
async fn a_million_keys_stay_bounded() {
    let world = world().await;
    let mut worker = world.worker("one", Share::ALL);
    for n in 0..1_000_000 {
        let name = format!("/{n}");
        worker.note(&name, access(&name, Found::Nowhere));
        if n % 50_000 == 49_999 {
            worker.writer.flush().await;
        }
    }
    // All are accesses, and of each flush a thousand keys are told.
    assert_eq!(
        world.number("SELECT sum(accesses)::bigint FROM access_log").await,
        1_000_000
    );
    assert_eq!(world.number("SELECT count(*) FROM access_keys").await, 20_000);
    assert_eq!(worker.dropped("key_full"), 980_000);
    // More than are held between two flushes.
    for n in 0..100_000 {
        worker.note("/", access("/", Found::Memory));
        assert_eq!(worker.dropped("full"), u64::max(n, 65_535) - 65_535, "{n}");
    }
    worker.writer.flush().await;
    // And more than the table is to have.
    world
        .run(&format!(
            "INSERT INTO access_keys SELECT 'github', sha256(n::text::bytea), n::text, NULL, '', now() - interval '1 hour' - n * interval '1 second'
             FROM generate_series(1, {MOST_KEYS}) n;
             INSERT INTO access_keys SELECT 'slack', sha256(n::text::bytea), n::text, NULL, '', now() - interval '16 days'
             FROM generate_series(1, 10) n"
        ))
        .await;
    for n in 0..10_000 {
        let name = format!("/more/{n}");
        worker.note(&name, access(&name, Found::Nowhere));
        if n % 1_000 == 999 {
            worker.writer.flush().await;
        }
    }
    let of = |service: &str| format!("SELECT count(*) FROM access_keys WHERE service = '{service}'");
    let left = world.number(&of("github")).await;
    assert_eq!(left, i64::from(MOST_KEYS));
    let young = "SELECT count(*) FROM access_keys WHERE seen_at > now() - interval '30 minutes'";
    assert_eq!(world.number(young).await, 30_001, "the oldest go first");
    forget_old(&world.pool).await.unwrap();
    assert_eq!(world.number(&of("slack")).await, 0);
}
