//! What Linear's answers mean: pure.

use serde_json::Value;
use shared::failure::Failure;

use crate::handler::Outcome;
use crate::handler::graphql::{self, Part};

/// The outcome of one call. A write tells apart whether it was made.
pub(super) fn judge(part: &Part) -> Outcome {
    let done = graphql::judge(part, failure)?;
    let mut payloads = part.data.iter().flat_map(|data| data.values());
    if payloads.any(|payload| payload["success"] == false) {
        return Err(Failure::permanent(
            "unsuccessful",
            "Linear has not done it and says no reason",
        ));
    }
    Ok(done)
}

/// What an error of Linear means: by its code, or by its type, which it had before codes. Source: Linear's SDK, the
/// types of errors.
fn failure(error: &Value) -> Failure {
    let text = |pointer| error.pointer(pointer).and_then(Value::as_str);
    let word = text("/extensions/code")
        .or(text("/extensions/type"))
        .unwrap_or("graphql_error");
    let said = text("/extensions/userPresentableMessage")
        .or(text("/message"))
        .unwrap_or("no message");
    let code = word.to_ascii_lowercase().replace(' ', "_");
    let kind = text("/extensions/type")
        .unwrap_or_default()
        .to_ascii_lowercase()
        .replace('_', " ");
    let passes = matches!(kind.as_str(), "internal error" | "lock timeout" | "network error")
        || matches!(
            code.as_str(),
            "internal_server_error" | "lock_timeout" | "network_error"
        );
    if passes {
        Failure::unknown(code, said)
    } else if code == "ratelimited" {
        Failure::throttled(code, said, std::time::Duration::from_secs(60))
    } else {
        Failure::permanent(code, said)
    }
}

/// Whether a refusal to create may mean that it was created before.
pub(super) fn may_be_there(failure: &Failure) -> bool {
    const NOT: [&str; 7] = [
        "authentication_error",
        "forbidden",
        "feature_not_accessible",
        "usage_limit_exceeded",
        "graphql_validation_failed",
        "graphql_parse_failed",
        "call",
    ];
    matches!(failure, Failure::Permanent { reason } if !NOT.contains(&&*reason.code))
}
