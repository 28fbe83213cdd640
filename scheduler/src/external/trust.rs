//! Keeps what the cluster says of its front proxy: watches one config map. Nobody is trusted before it was read, nor while
//! it is gone or wrong; while the API server does not answer, what it said last holds.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;

use super::front_proxy::FrontProxy;

/// Where the API server publishes what the servers behind its aggregation layer need.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// What is known of the front proxy. Clones share it.
#[derive(Debug, Clone)]
pub struct Trust(Arc<watch::Sender<Result<Arc<FrontProxy>, String>>>);

impl Default for Trust {
    fn default() -> Self {
        let unread = format!("the config map {NAMESPACE}/{NAME} was not read yet");
        Self(Arc::new(watch::Sender::new(Err(unread))))
    }
}

/// The watch ended, which it never should.
#[derive(Debug, thiserror::Error)]
#[error("the watch of the config map {NAMESPACE}/{NAME} ended")]
pub struct Ended;

impl Trust {
    /// What makes a request one of the aggregator now, or why nobody can tell.
    pub fn front_proxy(&self) -> Result<Arc<FrontProxy>, String> {
        self.0.borrow().clone()
    }

    /// Follows the config map for ever.
    pub async fn follow(self, client: kube::Client) -> Result<(), Ended> {
        let maps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
        let mut changes = pin!(watcher::watch_object(maps, NAME).default_backoff());
        let mut reachable = true;
        while let Some(change) = changes.next().await {
            match change {
                Ok(map) => {
                    reachable = true;
                    self.take(map.and_then(|map| map.data));
                }
                // Told when it begins, not at every try.
                Err(error) if reachable => {
                    reachable = false;
                    tracing::warn!(%error, "the config map {NAMESPACE}/{NAME} cannot be read");
                }
                Err(_) => {}
            }
        }
        Err(Ended)
    }

    /// Takes what the config map holds; `None` where there is no such map, or nothing in it.
    pub fn take(&self, data: Option<BTreeMap<String, String>>) {
        let read = match data {
            None => Err(format!("the config map {NAMESPACE}/{NAME} is not there")),
            Some(data) => FrontProxy::read(&data)
                .map(Arc::new)
                .map_err(|error| format!("the config map {NAMESPACE}/{NAME} is of no use: {error}")),
        };
        match &read {
            Ok(proxy) if proxy.takes_any_name() => {
                tracing::warn!(
                    "the cluster allows every name under the front proxy's CA to speak for its users"
                );
            }
            Ok(_) => tracing::info!("the front proxy's CA, names and headers are known"),
            Err(error) => tracing::error!(error, "no request for metrics can be authenticated"),
        }
        let _before = self.0.send_replace(read);
    }
}
