//! `none`: makes no call. For events, mostly webhooks, from which others follow by rules, and which ask for nothing
//! themselves: they are done as soon as they are read.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use shared::config::Reader;
use shared::event::Event;

use super::kind::NO_URL;
use super::{Completion, Handler, Kind, Make, Outcome, Parts};
use crate::config::ServiceConfig;
use crate::effect::Policy;
use crate::provider::Provider;
use crate::quota::Turn;

/// `none`, as workers know it. What has no effect may be done again.
pub const KIND: Kind = Kind {
    name: "none",
    url: NO_URL,
    types: &[],
    concurrency: 50,
    timeout: Duration::from_secs(30),
    provider: Provider::Other,
    unknown: Policy::Retry,
    charged_apart: &[],
    own_endpoint: false,
    caches: false,
    read: |_: &mut Reader<'_>, _: &str| Arc::new(Nothing),
};

/// The code of an event for which no call was made.
const CODE: &str = "no_call";

/// Its settings, of which there are none, and the handler.
#[derive(Debug)]
struct Nothing;

impl Make for Nothing {
    fn make(&self, _: &ServiceConfig, _: Parts) -> Result<Arc<dyn Handler>, String> {
        Ok(Arc::new(Self))
    }

    fn calls_its_url(&self) -> bool {
        false
    }
}

impl Handler for Nothing {
    fn handle<'a>(&'a self, _: &'a Event, _: &'a Turn) -> BoxFuture<'a, Outcome> {
        async { Ok(Completion::new(CODE)) }.boxed()
    }
}
