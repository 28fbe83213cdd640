//! Every kind of question that history answers.

use shared::event::Tenant;
use shared::store::history::{Filter, State};
use shared::subject::Service;

use crate::world::{DAY, NOON};

pub(crate) fn service(name: &str) -> Service {
    Service::new(name).unwrap()
}

fn us(seconds_ago: i64) -> i64 {
    (NOON - seconds_ago) * 1_000_000
}

/// Their names, and what they ask for.
pub(crate) fn filters() -> Vec<(&'static str, Filter)> {
    let all = Filter::default();
    let acme = Some(Tenant::new("acme").unwrap());
    let github = vec![service("github")];
    let between = Filter {
        from_us: Some(us(13 * DAY)),
        to_us: Some(us(9 * DAY)),
        ..all.clone()
    };
    vec![
        ("all", all.clone()),
        (
            "a service",
            Filter {
                services: github.clone(),
                ..all.clone()
            },
        ),
        (
            "two services",
            Filter {
                services: vec![service("github"), service("slack")],
                ..all.clone()
            },
        ),
        (
            "dead",
            Filter {
                state: Some(State::Dead),
                ..all.clone()
            },
        ),
        (
            "done of a service",
            Filter {
                services: github.clone(),
                state: Some(State::Done),
                ..all.clone()
            },
        ),
        (
            "failed",
            Filter {
                state: Some(State::Failed),
                ..all.clone()
            },
        ),
        (
            "with attempts",
            Filter {
                attempts: true,
                ..all.clone()
            },
        ),
        (
            "a tenant",
            Filter {
                tenant: acme.clone(),
                ..all.clone()
            },
        ),
        (
            "a tenant's failed attempts of a service",
            Filter {
                tenant: acme.clone(),
                services: github.clone(),
                state: Some(State::Failed),
                ..all.clone()
            },
        ),
        (
            "a tenant within days",
            Filter {
                tenant: acme,
                ..between.clone()
            },
        ),
        (
            "dead of a service within days",
            Filter {
                services: github,
                state: Some(State::Dead),
                ..between.clone()
            },
        ),
        ("within days", between),
        (
            "a service that there is not",
            Filter {
                services: vec![service("none")],
                ..all
            },
        ),
    ]
}
