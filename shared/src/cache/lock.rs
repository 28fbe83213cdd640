//! Who of the fleet fetches a key: a lock in Redis with the fence of its holder, who must renew it. For whoever dies with
//! it the others wait as long as it lasts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::key::Key;
use super::l2::L2;

/// A lock that is not renewed lapses after so long.
const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(3);

/// Who fetches.
pub(super) enum Turn {
    /// We, until we are done.
    Ours(Lock),
    /// Another.
    Theirs,
    /// Nobody can say.
    Unknown,
}

/// A lock that is ours.
pub(super) struct Lock {
    l2: Arc<L2>,
    key: Key,
    pub(super) fence: String,
}

impl Lock {
    /// Asks to be the one who fetches.
    pub(super) async fn take(l2: &Arc<L2>, key: &Key) -> Turn {
        let fence = format!("{:032x}", rand::random::<u128>());
        match l2.lock(key, &fence, LEASE).await {
            Ok(true) => Turn::Ours(Self {
                l2: Arc::clone(l2),
                key: key.clone(),
                fence,
            }),
            Ok(false) => Turn::Theirs,
            Err(_) => Turn::Unknown,
        }
    }

    /// Keeps it for as long as this is waited for.
    pub(super) async fn hold(&self) -> Infallible {
        loop {
            tokio::time::sleep(RENEWAL).await;
            if self.l2.hold(&self.key, &self.fence, LEASE).await != Ok(true) {
                tracing::debug!(key = %self.key, "a fetch's lock is not renewed");
            }
        }
    }

    /// Gives it back. What is not given back lapses.
    pub(super) async fn release(self) {
        let _ = self.l2.hold(&self.key, &self.fence, Duration::ZERO).await;
    }
}
