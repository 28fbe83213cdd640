//! What an event wants of Linear.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use shared::event::Event;
use shared::failure::Failure;

use crate::effect::Effect;
use crate::handler::graphql::Call;

const CREATE_ISSUE: &str = "mutation($input: IssueCreateInput!) { \
    issueCreate(input: $input) { success issue { id identifier url } } }";
const CREATE_COMMENT: &str = "mutation($input: CommentCreateInput!) { \
    commentCreate(input: $input) { success comment { id url } } }";
const UPDATE_ISSUE: &str = "mutation($id: String!, $input: IssueUpdateInput!) { \
    issueUpdate(id: $id, input: $input) { success issue { id identifier url updatedAt } } }";
const ISSUE: &str = "query($id: String!) { issue(id: $id) { id identifier url title priority updatedAt \
    state { id name type } assignee { id name } team { id key } } }";
const COMMENT: &str =
    "query($id: String!) { comment(id: $id) { id url body updatedAt issue { id identifier } } }";
const PROJECT: &str = "query($id: String!) { project(id: $id) { id name url state progress updatedAt } }";

/// A request, and what it creates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wish {
    pub(super) call: Call,
    /// Where the event asks for something new with an id of ours.
    pub(super) creates: Option<New>,
    /// Whether the request may be made again.
    repeatable: bool,
}

/// Something to be created.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct New {
    /// Its id.
    pub(super) id: String,
    look_up: &'static str,
}

impl Wish {
    /// What an event wants; `None` for one about nothing that is known here.
    pub(super) fn of(event: &Event, service: &str) -> Result<Option<Self>, Failure> {
        let wish = match event.kind.as_str() {
            "call" => {
                let call = Call::of(event)?;
                let repeatable = call.reads();
                Self {
                    call,
                    creates: None,
                    repeatable,
                }
            }
            "issue.create" => create(event, service, ["teamId", "title"], CREATE_ISSUE, ISSUE)?,
            "comment.create" => create(event, service, ["issueId", "body"], CREATE_COMMENT, COMMENT)?,
            "issue.update" => {
                let mut input = object(event)?;
                let id = input.remove("id").filter(Value::is_string);
                let id = id.ok_or_else(|| bad("id of the issue is missing"))?;
                if input.is_empty() {
                    return Err(bad("it holds nothing to update"));
                }
                Self {
                    call: Call::own(UPDATE_ISSUE, json!({"id": id, "input": input}))?,
                    creates: None,
                    repeatable: true,
                }
            }
            _ => return of_webhook(event),
        };
        Ok(Some(wish))
    }

    pub(super) fn effect(&self) -> Effect {
        if self.repeatable {
            Effect::Repeatable
        } else {
            Effect::Once
        }
    }

    /// Asks for what it creates.
    pub(super) fn look_up(&self) -> Option<Result<Call, Failure>> {
        let new = self.creates.as_ref()?;
        Some(Call::own(new.look_up, json!({"id": new.id})))
    }
}

fn create(
    event: &Event,
    service: &str,
    needed: [&str; 2],
    mutation: &str,
    look_up: &'static str,
) -> Result<Wish, Failure> {
    let mut input = object(event)?;
    for name in needed {
        if !input.get(name).is_some_and(Value::is_string) {
            return Err(bad(&format!("{name} is missing")));
        }
    }
    let id = match input.get("id") {
        None => id_of(event, service),
        Some(Value::String(id)) => id.clone(),
        Some(_) => return Err(bad("id is no text")),
    };
    input.insert("id".into(), id.clone().into());
    Ok(Wish {
        call: Call::own(mutation, json!({"input": input}))?,
        creates: Some(New { id, look_up }),
        repeatable: true,
    })
}

/// The id of what an event creates: always the same, and a version 4 UUID by its look, as Linear wants it.
fn id_of(event: &Event, service: &str) -> String {
    let digest = Sha256::digest(format!("weir:{service}:{}", event.id));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// A webhook asks for what it is about; a thing that was removed cannot be asked for.
fn of_webhook(event: &Event) -> Result<Option<Wish>, Failure> {
    let Some(data) = event.data.to_json().map_err(|e| bad(&e))? else {
        return Ok(None);
    };
    let query = match data["type"].as_str() {
        Some("Issue") => ISSUE,
        Some("Comment") => COMMENT,
        Some("Project") => PROJECT,
        _ => return Ok(None),
    };
    match &data["data"]["id"] {
        Value::String(id) if data["action"] != "remove" => Ok(Some(Wish {
            call: Call::own(query, json!({"id": id}))?,
            creates: None,
            repeatable: true,
        })),
        _ => Ok(None),
    }
}

fn object(event: &Event) -> Result<Map<String, Value>, Failure> {
    match event.data.to_json().map_err(|e| bad(&e))? {
        Some(Value::Object(input)) => Ok(input),
        _ => Err(bad("it is no JSON object")),
    }
}

fn bad(what: &str) -> Failure {
    Failure::permanent("call", format!("data does not say what to write: {what}"))
}
