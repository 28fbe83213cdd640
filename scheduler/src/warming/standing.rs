//! What predictions were worth, handed on to whoever leads next: one value a service in the bucket of warming.

use async_nats::jetstream::kv::Store;
use shared::subject::Service;

use crate::warm::judge::Standing;

/// What the last leader left; `None` where there is nothing, or nothing that can be read: all sources begin in shadow then.
///
/// # Errors
/// NATS does not say: told in words.
pub(super) async fn load(bucket: &Store, service: &Service) -> Result<Option<Standing>, String> {
    let key = service.warm_standing();
    let Some(kept) = bucket.get(&key).await.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    match serde_json::from_slice(&kept) {
        Ok(standing) => Ok(Some(standing)),
        Err(error) => {
            tracing::warn!(%service, %error, "what warming was worth cannot be read: all of it begins in shadow");
            Ok(None)
        }
    }
}

/// Leaves it to the next.
///
/// # Errors
/// NATS did not take it: told in words.
pub(super) async fn save(bucket: &Store, service: &Service, standing: &Standing) -> Result<(), String> {
    let json = serde_json::to_vec(standing).map_err(|error| error.to_string())?;
    let put = bucket.put(service.warm_standing(), json.into()).await;
    put.map(drop).map_err(|error| error.to_string())
}
