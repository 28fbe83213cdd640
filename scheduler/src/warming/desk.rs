//! What is known of one service, shared by the one who works on it and those who are asked about it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::subject::Service;
use shared::warm::{Day, Pause, ServiceStatus, Source as Told, State};

use crate::warm::Warmer;
use crate::warm::judge::NEEDED;
use crate::warm::predict::Source;

/// One service.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) service: Service,
    /// `None` while nothing is learnt. Held for as long as a plan takes: lock it where that may block.
    warmer: Mutex<Option<Warmer>>,
    view: Mutex<View>,
}

/// What people are told beside that.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) state: State,
    pub(super) ttl_ms: u64,
    pub(super) paused: Option<Pause>,
    pub(super) trouble: Option<String>,
}

impl Desk {
    /// A service of which nothing is learnt yet.
    pub(super) fn new(service: Service, state: State) -> Self {
        Self {
            service,
            warmer: Mutex::default(),
            view: Mutex::new(View {
                state,
                ttl_ms: 0,
                paused: None,
                trouble: None,
            }),
        }
    }

    /// Begins anew with this one.
    pub(super) fn begin(&self, warmer: Option<Warmer>) {
        *self.lock() = warmer;
    }

    /// Works with what was learnt; `None` where nothing is.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Warmer) -> T) -> Option<T> {
        self.lock().as_mut().map(work)
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Warmer>> {
        self.warmer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it goes.
    pub(super) fn status(&self, now_ms: u64) -> ServiceStatus {
        let view = self.view().clone();
        let mut status = ServiceStatus {
            service: self.service.to_string(),
            state: view.state,
            ttl_ms: view.ttl_ms,
            keys: 0,
            sources: Vec::new(),
            day: Day::default(),
            calls_left: 0,
            silent_until_ms: None,
            paused: view.paused,
            trouble: view.trouble,
        };
        self.with(|warmer| {
            let judge = warmer.judge();
            let account = judge.account(now_ms);
            status.keys = warmer.model().size().0;
            status.calls_left = warmer.calls_left();
            status.silent_until_ms = judge.silent_until_ms().filter(|until| *until > now_ms);
            status.sources = Source::ALL
                .map(|source| Told {
                    source: source.as_str().to_owned(),
                    live: judge.live(source, now_ms),
                    precision: judge.record(source).precision(),
                    judged: judge.record(source).judged(),
                    needed: NEEDED,
                })
                .into();
            status.day = Day {
                looks: account.looks,
                misses: account.misses,
                right: account.live.right,
                wrong: account.live.wrong,
                shadow_right: account.shadow.right,
                shadow_wrong: account.shadow.wrong,
                coverage: account.coverage(),
                hit_gain: account.hit_gain(),
                lead_ms: account.live.mean_lead_ms(),
            };
        });
        status
    }
}
