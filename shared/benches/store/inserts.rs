//! Writing.

use shared::store::migrate::migrate;
use shared::store::partitions::{Table, tend};
use sqlx::migrate::Migrator;

use crate::rows::{commit, fill};
use crate::{World, run, shown, timed};

/// Rows of a commit, as the worker's.
const GROUP: usize = 100;

pub(crate) fn outcomes(days: u16) -> Table {
    Table {
        name: "outcomes",
        time: "finished_at",
        days,
        keep: std::time::Duration::from_secs(3_650 * 86_400),
        append_only: false,
    }
}

/// One by one against a hundred at a time.
pub(crate) async fn bulk() {
    println!("\n| server | one by one | {GROUP} in a statement | ratio |\n|---|---|---|---|");
    for (durable, name) in [(true, "waits for the disk"), (false, "does not")] {
        let world = World::start(durable).await;
        let pool = world.database("bulk").await;
        migrate(&pool).await.unwrap();
        tend(&pool, &[outcomes(7)]).await.unwrap();
        let (mut singles, mut groups) = (Vec::new(), Vec::new());
        for round in 0..5 {
            let seed = round.to_string();
            let one_by_one = async {
                for _ in 0..500 {
                    commit(&pool, "outcomes", &seed, 1, true).await;
                }
            };
            singles.push(timed(one_by_one).await / 500.0);
            let together = async {
                for _ in 0..50 {
                    commit(&pool, "outcomes", &seed, GROUP, true).await;
                }
            };
            groups.push(timed(together).await / (50 * GROUP) as f64);
        }
        let (single, group) = (1e3 / shown(singles).0, 1e3 / shown(groups).0);
        println!(
            "| {name} | {single:.0}/s | {group:.0}/s | {:.1} |",
            group / single
        );
    }
}

/// What the indexes of history cost a commit.
pub(crate) async fn indexes(rows: usize) {
    let world = World::start(false).await;
    let (before, after) = (world.database("before").await, world.database("after").await);
    let migrations: Migrator = sqlx::migrate!("./migrations");
    migrations.run_to(4, &before).await.unwrap();
    migrate(&after).await.unwrap();
    for (pool, tenants) in [(&before, false), (&after, true)] {
        tend(pool, &[outcomes(7)]).await.unwrap();
        fill(pool, "outcomes", rows, 1, tenants).await;
        run(pool, "VACUUM ANALYZE outcomes").await;
    }
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..2_000 {
        let seed = round.to_string();
        without.push(timed(commit(&before, "outcomes", &seed, GROUP, false)).await);
        with.push(timed(commit(&after, "outcomes", &seed, GROUP, true)).await);
    }
    println!("\nA commit of {GROUP} into {rows} rows, 2,000 of each in turn\n");
    println!("| indexes of history | p50 | p99 |\n|---|---|---|");
    let (without, with) = (shown(without), shown(with));
    println!("| without | {:.2} ms | {:.2} ms |", without.0, without.1);
    println!("| with | {:.2} ms | {:.2} ms |", with.0, with.1);
    println!(
        "| more | {:.0} % | {:.0} % |",
        (with.0 / without.0 - 1.0) * 100.0,
        (with.1 / without.1 - 1.0) * 100.0
    );
}
