//! Servers that the caller gave: they must answer before anything is started on them.

use std::time::Duration;

use shared::config::Fleet;
use shared::config::reader::without_password;
use shared::connect;
use sqlx::Connection;

use crate::fleet;

/// How long a given server may take to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// NATS answers and has JetStream.
pub(super) async fn nats(fleet: &Fleet) -> Result<(), String> {
    let shown = fleet::shown(&fleet.nats_url);
    let ask = async {
        let (_, js) = fleet::connect(fleet)
            .await
            .map_err(|_| "does not answer".to_owned())?;
        js.query_account()
            .await
            .map_err(|error| format!("has no JetStream: {error}"))
    };
    within(ask)
        .await
        .map_err(|why| format!("WEIR_NATS_URL: NATS at {shown} {why}"))
}

/// Redis answers a PING.
pub(super) async fn redis(url: &str) -> Result<(), String> {
    let ask = async {
        let mut connection = connect::redis(url).map_err(|error| error.to_string())?;
        redis::cmd("PING")
            .exec_async(&mut connection)
            .await
            .map_err(|error| error.to_string())
    };
    within(ask)
        .await
        .map_err(|why| format!("WEIR_REDIS_URL: Redis at {}: {why}", without_password(url)))
}

/// Postgres answers a query.
pub(super) async fn postgres(url: &str) -> Result<(), String> {
    let ask = async {
        let mut connection = sqlx::PgConnection::connect(url)
            .await
            .map_err(|error| error.to_string())?;
        connection.ping().await.map_err(|error| error.to_string())
    };
    within(ask)
        .await
        .map_err(|why| format!("WEIR_POSTGRES_URL: Postgres at {}: {why}", without_password(url)))
}

async fn within<T>(ask: impl Future<Output = Result<T, String>>) -> Result<(), String> {
    match tokio::time::timeout(WITHIN, ask).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(format!("does not answer within {} s", WITHIN.as_secs())),
    }
}
