//! What people read.

use shared::event::Tenant;
use shared::store::history::{Filter, State, page};
use shared::store::metrics::Metrics;
use shared::store::partitions::{complete, tend, tend_at};
use shared::store::reads::Reads;
use shared::store::report::report;
use shared::store::settings::Size;
use shared::subject::Service;

use crate::inserts::outcomes;
use crate::rows::fill;
use crate::{World, run, settings, shown, timed};

/// Pages of each question.
const PAGES: usize = 200;

/// Pages from the newest on and from the middle on.
pub(crate) async fn pages(rows: usize) {
    let world = World::start(false).await;
    let pool = world.database("pages").await;
    shared::store::migrate::migrate(&pool).await.unwrap();
    let now: i64 = sqlx::query_scalar("SELECT extract(epoch FROM now())::bigint")
        .fetch_one(&pool)
        .await
        .unwrap();
    for back in (0..=30).rev() {
        tend_at(&pool, &outcomes(7), now - back * 86_400).await.unwrap();
    }
    tend(&pool, &[outcomes(7)]).await.unwrap();
    fill(&pool, "outcomes", rows, 21, true).await;
    complete(&pool, &[outcomes(7)]).await.unwrap();
    run(&pool, "VACUUM ANALYZE outcomes").await;
    let url = world.server.url("pages");
    let size = Size { least: 1, most: 2 };
    let reads = Reads::open(&url, &settings(), size, "bench", Metrics::default()).unwrap();
    let all = Filter::default();
    let github = vec![Service::new("github").unwrap()];
    let tenant = Some(Tenant::new("acme").unwrap());
    let middle = Some((now - 10 * 86_400) * 1_000_000);
    let of = |services: &[Service], state, tenant: &Option<Tenant>| Filter {
        services: services.to_vec(),
        state,
        tenant: tenant.clone(),
        ..all.clone()
    };
    println!("\nA page of 50 at {rows} events, {PAGES} pages of each, one after the other\n");
    println!("| question | from the newest, p50 | p99 | from the middle, p50 | p99 |\n|---|---|---|---|---|");
    for (name, filter) in [
        ("all", all.clone()),
        ("a service", of(&github, None, &None)),
        ("dead", of(&[], Some(State::Dead), &None)),
        ("dead of a service", of(&github, Some(State::Dead), &None)),
        ("a tenant", of(&[], None, &tenant)),
        ("a tenant, dead", of(&[], Some(State::Dead), &tenant)),
    ] {
        let newest = follow(&reads, &filter).await;
        let filter = Filter {
            to_us: middle,
            ..filter
        };
        let middle = follow(&reads, &filter).await;
        println!(
            "| {name} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms |",
            newest.0, newest.1, middle.0, middle.1
        );
    }
    for hours in [24, 168] {
        let took = timed(async { drop(report(&reads, hours, &[]).await.unwrap()) }).await;
        println!("\nThe report of {hours} hours: {took:.0} ms, and then kept for WEIR_POSTGRES_QUERY_CACHE");
    }
}

async fn follow(reads: &Reads, filter: &Filter) -> (f64, f64) {
    let (mut cursor, mut took) = (None, Vec::new());
    for _ in 0..PAGES {
        let mut next = None;
        let ask = async { next = page(reads, filter, cursor.as_deref(), 50).await.unwrap().next };
        took.push(timed(ask).await);
        cursor = next;
    }
    shown(took)
}
