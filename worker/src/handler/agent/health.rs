//! Whether a model answers, as this worker has seen: one that mostly fails is not asked for some time, and then by one
//! call first. By the same rule as a service's upstreams; each worker for itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::breaker::{Rule, Window};
use shared::failure::Failure;

/// See the module.
#[derive(Debug)]
pub(super) struct Health {
    /// `None` where breakers are off.
    rule: Option<Rule>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window: Window,
    /// Until when nobody calls, and the how-many-th time in a row that is.
    open: Option<(Instant, u32)>,
    probing: bool,
}

/// A call that may begin. Dropped untold, it has shown nothing.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    health: &'a Health,
    probe: bool,
}

impl Health {
    pub(super) fn new(rule: Option<Rule>, now: Instant) -> Self {
        let length = rule.map_or(Duration::from_secs(30), |rule| rule.window());
        Self {
            rule,
            state: Mutex::new(State {
                window: Window::new(length, now),
                open: None,
                probing: false,
            }),
        }
    }

    /// Leave to call.
    ///
    /// # Errors
    /// How long the model is out of service.
    pub(super) fn enter(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut state = self.state();
        let probe = match state.open {
            None => false,
            Some((until, _)) if now < until => return Err(until - now),
            Some(_) if state.probing => return Err(Duration::from_secs(1)),
            Some(_) => true,
        };
        state.probing |= probe;
        Ok(Pass { health: self, probe })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// What the call has shown. A limit and what the question is to blame for show that it answers.
    pub(super) fn tell(self, failure: Option<&Failure>, unit: f64, now: Instant) {
        let Some(rule) = self.health.rule else { return };
        let failed =
            matches!(failure, Some(Failure::Transient { reason, .. }) if !reason.code.starts_with("http_4"));
        let mut state = self.health.state();
        let openings = state.open.map_or(0, |(_, openings)| openings);
        if self.probe {
            state.open = failed.then(|| (now + rule.open_for(openings + 1, unit), openings + 1));
            state.window.clear();
            return;
        }
        state.window.count(failed, now);
        if state.open.is_none() && failed && rule.trips(state.window.counts(now)) {
            state.open = Some((now + rule.open_for(1, unit), 1));
            state.window.clear();
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.health.state().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_fails_is_left_alone_and_then_probed_by_one_call() {
        let now = Instant::now();
        let health = Health::new("50% of 4 in 30s, open 10s to 60s".parse().ok(), now);
        let broken = Failure::transient("http_500", "x");
        let limited = Failure::throttled("http_429", "x", Duration::ZERO);
        for _ in 0..9 {
            health.enter(now).unwrap().tell(Some(&limited), 0.5, now);
        }
        for _ in 0..9 {
            health.enter(now).unwrap().tell(Some(&broken), 0.5, now);
        }
        let wait = health.enter(now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(10), "half of them have failed");
        let later = now + wait;
        let probe = health.enter(later).unwrap();
        assert!(health.enter(later).is_err(), "one at a time");
        probe.tell(Some(&broken), 0.5, later);
        assert_eq!(
            health.enter(later).unwrap_err(),
            Duration::from_secs(20),
            "twice as long"
        );
        let later = later + Duration::from_secs(20);
        drop(health.enter(later).unwrap());
        health.enter(later).unwrap().tell(None, 0.5, later);
        assert!(health.enter(later).is_ok() && health.enter(later).is_ok());
    }

    #[test]
    fn without_a_rule_nothing_is_left_alone() {
        let now = Instant::now();
        let health = Health::new(None, now);
        for _ in 0..99 {
            health
                .enter(now)
                .unwrap()
                .tell(Some(&Failure::transient("connect", "x")), 0.5, now);
        }
        assert!(health.enter(now).is_ok());
    }
}
