//! GitHub's GraphQL API: points of its own, errors beside data.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::provider::{
    exchange::{Ask, Reply},
    graphql::Query,
};

/// Path of the API.
pub(super) const PATH: &str = "/graphql";

/// Whether a call is one of GraphQL.
pub(super) fn is(ask: &Ask) -> bool {
    ask.path == PATH
}

/// Whether it changes something.
pub(super) fn writes(ask: &Ask) -> bool {
    Query::read(&ask.body).is_some_and(|query| query.writes)
}

/// The answer: repositories whose name begins with `missing` are not there.
pub(super) fn serve(ask: &Ask) -> Reply {
    let Some(query) = Query::read(&ask.body) else {
        let error = json!({"message": "Parse error"});
        return Reply::json(StatusCode::OK, &json!({"errors": [error]}));
    };
    let (mut data, mut errors) = (Map::new(), Vec::new());
    for field in &query.fields {
        let name = field
            .arguments
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let missing = field.name == "repository" && name.starts_with("missing");
        if missing {
            errors.push(json!({"type": "NOT_FOUND", "path": [field.key],
                "message": format!("Could not resolve to a Repository with the name '{name}'.")}));
        }
        let value = if missing {
            Value::Null
        } else {
            json!({"id": format!("R_{name}"), "name": name})
        };
        data.insert(field.key.clone(), value);
    }
    let mut body = json!({"data": data});
    if !errors.is_empty() {
        body["errors"] = errors.into();
    }
    Reply::json(StatusCode::OK, &body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use http::Method;

    use super::*;
    use crate::provider::exchange::ask;

    #[test]
    fn what_is_not_there_is_null_and_an_error() {
        let text = "{ a: repository(owner: \"o\", name: \"x\") { id } b: repository(owner: \"o\", name: \"missing\") { id } }";
        let reply = serve(&ask(Method::POST, PATH, &[], &json!({"query": text}).to_string()));
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["data"], json!({"a": {"id": "R_x", "name": "x"}, "b": null}));
        assert_eq!(
            (&body["errors"][0]["type"], &body["errors"][0]["path"]),
            (&json!("NOT_FOUND"), &json!(["b"]))
        );
    }
}
