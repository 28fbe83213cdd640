//! Public addresses only: an analysis is asked for by events, and must not reach what only this network may.

use std::error::Error;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use shared::address::is_public;

/// Resolves names to public addresses only: the address that was looked at is the one that is called.
#[derive(Debug)]
pub(crate) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.into_iter().filter(|at| is_public(at.ip())).collect();
            if public.is_empty() {
                let refused: Box<dyn Error + Send + Sync> =
                    "the name leads to no address that is public".into();
                return Err(refused);
            }
            let addrs: Addrs = Box::new(public.into_iter());
            Ok(addrs)
        })
    }
}
