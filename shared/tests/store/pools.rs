//! What a pool promises, and what it says of itself.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use shared::store::metrics::Metrics;
use shared::store::pool::{look, read, watch, write};
use shared::store::settings::Settings;
use sqlx::Row as _;

use crate::world::{empty, migrated, size};

fn settings() -> Settings {
    Settings {
        write_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_secs(1),
        health: Duration::from_secs(1),
        ..Settings::default()
    }
}

#[tokio::test]
async fn the_server_keeps_the_time_of_statements() {
    let world = empty().await;
    let url = world.server.url("weir");
    let writing = write(&url, &settings(), size(2), "test").unwrap();
    let reading = read(&url, &settings(), size(2), Duration::from_secs(5), "test").unwrap();
    for (pool, expected) in [(&writing, "2s"), (&reading, "1s")] {
        let row = sqlx::query("SHOW statement_timeout")
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(row.get::<String, _>(0), expected);
        let error = sqlx::query("SELECT pg_sleep(60)")
            .execute(pool)
            .await
            .unwrap_err();
        let code = error.as_database_error().unwrap().code().unwrap().into_owned();
        assert_eq!(code, "57014", "cancelled by the server");
    }
    let refused = sqlx::query("CREATE TABLE t ()")
        .execute(&reading)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
}

#[tokio::test]
async fn a_pool_without_a_free_connection_or_a_server_is_unhealthy_until_it_has_one() {
    let mut world = migrated().await;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let pool = write(&world.server.url("weir"), &settings(), size(2), "test").unwrap();
    let of_pool = metrics.of("write", &pool);
    let watching = tokio::spawn(watch(pool.clone(), of_pool, Duration::from_millis(50)));
    let shown = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    };
    let until = async |line: &str| {
        let shows = async {
            while !shown().contains(line) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let shows = tokio::time::timeout(Duration::from_secs(60), shows).await;
        assert!(shows.is_ok(), "{line}: {}", shown());
    };
    until("weir_postgres_healthy{pool=\"write\"} 1").await;
    let held = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    until("weir_postgres_connections{pool=\"write\",state=\"used\"} 2").await;
    until("weir_postgres_connections_limit{pool=\"write\"} 2").await;
    assert!(look(&pool).await.unwrap_err().contains("within 5 s"));
    until("weir_postgres_healthy{pool=\"write\"} 0").await;
    drop(held);
    until("weir_postgres_healthy{pool=\"write\"} 1").await;
    world.server.stop().await.unwrap();
    until("weir_postgres_healthy{pool=\"write\"} 0").await;
    world.server.restart().await.unwrap();
    until("weir_postgres_healthy{pool=\"write\"} 1").await;
    watching.abort();
}
