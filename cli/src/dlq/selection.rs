//! Which dead letters fit.

use shared::dead_letter::DeadLetter;
use shared::event::Tenant;
use shared::subject::lane_and_tenant;

use crate::args::Selection;
use crate::failure::Failure;

impl Selection {
    /// Whether every letter fits.
    pub(super) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the server can tell by itself which letters fit: all, or those of one service.
    pub(super) fn is_by_service(&self) -> bool {
        let service = self.service.clone();
        *self
            == Self {
                service,
                ..Self::default()
            }
    }

    /// Refuses a span of time that holds no moment.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match (self.after, self.before) {
            (Some(after), Some(before)) if after >= before => Err(Failure::usage(
                "--after is not earlier than --before: no letter fits both",
            )),
            _ => Ok(()),
        }
    }

    /// Whether a letter fits all of it.
    pub(super) fn fits(&self, letter: &DeadLetter) -> bool {
        fn wanted<T>(wish: Option<&T>, fits: impl FnOnce(&T) -> bool) -> bool {
            wish.is_none_or(fits)
        }
        wanted(self.service.as_ref(), |service| *service == letter.service)
            && wanted(self.code.as_ref(), |code| *code == letter.code)
            && wanted(self.id.as_ref(), |id| *id == letter.id)
            && wanted(self.id_prefix.as_ref(), |start| {
                letter.id.starts_with(start.as_str())
            })
            && wanted(self.min_attempts.as_ref(), |least| letter.attempts >= *least)
            && wanted(self.after.as_ref(), |after| letter.at >= *after)
            && wanted(self.before.as_ref(), |before| letter.at < *before)
            && wanted(self.reason.as_ref(), |text| {
                letter.reason.to_lowercase().contains(&text.to_lowercase())
            })
            && self.fits_home(letter)
    }

    fn fits_home(&self, letter: &DeadLetter) -> bool {
        if self.lane.is_none() && self.tenant.is_none() {
            return true;
        }
        letter.home().is_some_and(|home| {
            let (lane, tenant) = lane_and_tenant(home);
            self.lane.is_none_or(|wanted| wanted == lane)
                && (self.tenant.as_ref()).is_none_or(|wanted| Some(wanted) == tenant.and_then(named).as_ref())
        })
    }
}

fn named(tenant: &str) -> Option<Tenant> {
    Tenant::new(tenant).ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use async_nats::HeaderMap;
    use async_nats::jetstream::message::StreamMessage;
    use bytes::Bytes;
    use shared::subject::{Lane, Service, headers};

    use super::*;

    #[test]
    fn a_letter_fits_when_all_that_is_asked_for_fits() {
        let mut map = HeaderMap::new();
        for (name, value) in [
            (headers::ID, "github:1"),
            (headers::DEAD_CODE, "http_500"),
            (headers::DEAD_REASON, "The answer was Über-late"),
            (headers::DEAD_AT, "1000"),
            (headers::DEAD_SUBJECT, "events.github.high.acme"),
            (headers::ATTEMPTS, "3"),
        ] {
            map.insert(name, value);
        }
        let message = StreamMessage {
            subject: "dead.github".into(),
            sequence: 1,
            headers: map,
            payload: Bytes::new(),
            time: SystemTime::now().into(),
        };
        let letter = DeadLetter::read(&message).unwrap();
        let all = Selection::default();
        assert!(all.is_everything() && all.is_by_service() && all.fits(&letter));
        let github = Selection {
            service: Some(Service::new("github").unwrap()),
            ..all.clone()
        };
        assert!(!github.is_everything() && github.is_by_service());
        let fits: [fn(&mut Selection); 10] = [
            |s| s.code = Some("http_500".into()),
            |s| s.reason = Some("über-LATE".into()),
            |s| s.id = Some("github:1".into()),
            |s| s.id_prefix = Some("github:".into()),
            |s| s.lane = Some(Lane::High),
            |s| s.tenant = Some(Tenant::new("acme").unwrap()),
            |s| s.after = Some(1000),
            |s| s.before = Some(1001),
            |s| s.min_attempts = Some(3),
            |s| (s.after, s.before) = (Some(0), Some(2000)),
        ];
        let mut every = github.clone();
        for set in fits {
            let mut one = github.clone();
            set(&mut one);
            assert!(one.fits(&letter) && !one.is_by_service(), "{one:?}");
            set(&mut every);
        }
        assert!(every.fits(&letter));
        let fails: [fn(&mut Selection); 10] = [
            |s| s.service = Some(Service::new("slack").unwrap()),
            |s| s.code = Some("http_50".into()),
            |s| s.reason = Some("early".into()),
            |s| s.id = Some("github:".into()),
            |s| s.id_prefix = Some("github:12".into()),
            |s| s.lane = Some(Lane::Normal),
            |s| s.tenant = Some(Tenant::new("acm").unwrap()),
            |s| s.after = Some(1001),
            |s| s.before = Some(1000),
            |s| s.min_attempts = Some(4),
        ];
        for set in fails {
            let mut other = every.clone();
            set(&mut other);
            assert!(!other.fits(&letter), "{other:?}");
        }
        let nothing = Selection {
            after: Some(5),
            before: Some(5),
            ..all
        };
        assert!(nothing.check().is_err());
    }
}
