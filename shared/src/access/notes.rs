//! Noting accesses, in passing: a lock that nobody keeps for longer than it takes to hold one more of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::held::{Held, Key};
use super::metrics::{AccessMetrics, Counts, Why};
use super::{Access, Digest, Share, What};
use crate::subject::Service;

/// Where a process notes accesses; clones are the same one. What nobody [writes](super::write) in time is dropped and counted.
#[derive(Clone)]
pub struct Notes(Option<Arc<Inner>>);

struct Inner {
    share: Share,
    services: HashMap<Service, Of>,
    metrics: AccessMetrics,
}

struct Of {
    held: Mutex<Held>,
    counts: Counts,
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notes({})", self.share())
    }
}

impl Notes {
    /// Notes accesses of a share of the keys of these services, and of no others.
    pub fn new(share: Share, services: &[Service], metrics: AccessMetrics) -> Self {
        if share == Share::OFF {
            return Self::off();
        }
        let of = |service: &Service| {
            let of = Of {
                held: Mutex::default(),
                counts: metrics.of(service),
            };
            (service.clone(), of)
        };
        Self(Some(Arc::new(Inner {
            share,
            services: services.iter().map(of).collect(),
            metrics,
        })))
    }

    /// Notes nothing: for where there is no Postgres.
    pub fn off() -> Self {
        Self(None)
    }

    /// Of which keys accesses are noted.
    pub fn share(&self) -> Share {
        self.0.as_ref().map_or(Share::OFF, |inner| inner.share)
    }

    /// Notes an access of the key with this digest, whatever its `key` says. `what` is asked what to fetch for the key now
    /// and then, and says `None` where that cannot be told. Never waits for a server and never fails: what there is no room
    /// for is dropped and counted.
    pub fn note(
        &self,
        service: &Service,
        digest: Digest,
        access: Access,
        what: impl FnOnce() -> Option<What>,
    ) {
        let Some(inner) = &self.0 else { return };
        if !inner.share.takes(&digest) {
            return;
        }
        let Some(of) = inner.services.get(service) else {
            return;
        };
        let access = Access {
            key: digest.id(),
            ..access
        };
        let held = of.held().hold(access);
        match held {
            None => return of.counts.dropped(Why::Full, 1),
            Some(Key::Known) => {}
            Some(Key::NoRoom) => of.counts.dropped(Why::KeyFull, 1),
            // Asked without the lock: it may take a while.
            Some(Key::New) => match what() {
                Some(what) => of.held().tell(digest, what),
                None => of.counts.dropped(Why::KeyLarge, 1),
            },
        }
        of.counts.noted.inc();
    }

    /// Takes what is noted of each service.
    pub(super) fn take(&self) -> impl Iterator<Item = (&Service, Vec<Access>, Vec<(Digest, What)>)> {
        let services = self.0.iter().flat_map(|inner| &inner.services);
        services.map(|(service, of)| {
            let (accesses, keys) = of.held().take();
            (service, accesses, keys)
        })
    }

    /// Lets keys be told again that were told long ago.
    pub(super) fn age(&self) {
        let services = self.0.iter().flat_map(|inner| inner.services.values());
        for of in services {
            of.held().age();
        }
    }

    /// Lets keys be told again that were told and not written.
    pub(super) fn forget(&self, service: &Service, keys: impl Iterator<Item = u64>) {
        if let Some(of) = self.of(service) {
            of.held().forget(keys);
        }
    }

    pub(super) fn counts(&self, service: &Service) -> Option<&Counts> {
        self.of(service).map(|of| &of.counts)
    }

    /// Notes how long a row took to write.
    pub(super) fn took(&self, seconds: f64) {
        if let Some(inner) = &self.0 {
            inner.metrics.seconds.observe(seconds);
        }
    }

    fn of(&self, service: &Service) -> Option<&Of> {
        self.0.as_ref()?.services.get(service)
    }
}

impl Of {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
