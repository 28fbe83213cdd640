//! What must hold of every parser, whatever bytes it gets. Each module checks one family of them; `check` takes any bytes
//! and panics where a promise is broken. The same functions run over the corpus and over random bytes in the tests here,
//! and under a fuzzer in `fuzz/`. `docs/fuzzing.md` says how.
#![allow(
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::expect_used,
    reason = "a check panics where a promise is broken: that is what it is for"
)]

pub mod answers;
pub mod bits;
pub mod events;
pub mod limits;
pub mod message_headers;
pub mod places;
pub mod publishing;
pub mod request;
pub mod rules;
pub mod settings;
pub mod signature_github;
pub mod signature_gitlab;
pub mod signature_hmac;
pub mod signature_linear;
pub mod signature_slack;
pub mod signature_standard;
pub mod signature_stripe;
pub mod webhooks;
pub mod wire;

/// One check: its name, which is that of its fuzz target and of its folder in the corpus, and the function.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// The check.
    pub check: fn(&[u8]),
    /// Folders, from the repository's root, whose files are inputs as well.
    pub more: &'static [&'static str],
}

/// All of them.
pub const TARGETS: [Target; 16] = [
    Target {
        name: "wire",
        check: wire::check,
        more: &["shared/wire-v1/valid", "shared/wire-v1/invalid"],
    },
    Target {
        name: "signature_github",
        check: signature_github::check,
        more: &["ingest/tests/fixtures/github"],
    },
    Target {
        name: "signature_gitlab",
        check: signature_gitlab::check,
        more: &[],
    },
    Target {
        name: "signature_linear",
        check: signature_linear::check,
        more: &["ingest/tests/fixtures/linear"],
    },
    Target {
        name: "signature_slack",
        check: signature_slack::check,
        more: &["ingest/tests/fixtures/slack"],
    },
    Target {
        name: "signature_hmac",
        check: signature_hmac::check,
        more: &[],
    },
    Target {
        name: "signature_standard",
        check: signature_standard::check,
        more: &[],
    },
    Target {
        name: "signature_stripe",
        check: signature_stripe::check,
        more: &[],
    },
    Target {
        name: "webhooks",
        check: webhooks::check,
        more: &[
            "ingest/tests/fixtures/github",
            "ingest/tests/fixtures/linear",
            "ingest/tests/fixtures/slack",
        ],
    },
    Target {
        name: "places",
        check: places::check,
        more: &["ingest/tests/fixtures/linear", "ingest/tests/fixtures/slack"],
    },
    Target {
        name: "publishing",
        check: publishing::check,
        more: &["shared/wire-v1/valid"],
    },
    Target {
        name: "answers",
        check: answers::check,
        more: &[],
    },
    Target {
        name: "settings",
        check: settings::check,
        more: &[],
    },
    Target {
        name: "limits",
        check: limits::check,
        more: &[],
    },
    Target {
        name: "rules",
        check: rules::check,
        more: &["examples/rules"],
    },
    Target {
        name: "message_headers",
        check: message_headers::check,
        more: &[],
    },
];
