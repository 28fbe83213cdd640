//! Data of an emitted event as the file spells it out: a tree whose texts are templates.

use minijinja::Value;
use serde_json::{Map, Value as Json};

use crate::template::{Template, Uses};

/// Deepest tree.
pub(crate) const MAX_DEPTH: usize = 16;
/// Most templates of a tree.
pub(crate) const MAX_TEMPLATES: usize = 64;

/// A value, or what makes one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Fixed(Json),
    Template(Template),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Tree {
    /// The value for one event, at most so many bytes of it as JSON. An error says where in the tree, and what.
    pub(crate) fn fill(&self, scope: &Value, most: usize) -> Result<Json, (String, String)> {
        let mut room = most;
        let filled = self.part(scope, &mut room)?;
        let size = serde_json::to_string(&filled).map_or(0, |text| text.len());
        if size > most {
            return Err((String::new(), format!("gives more than {most} bytes")));
        }
        Ok(filled)
    }

    fn part(&self, scope: &Value, room: &mut usize) -> Result<Json, (String, String)> {
        let within = |at: String, (path, what): (String, String)| (format!("{at}{path}"), what);
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Template(template) => {
                let value = template
                    .fill(scope, *room)
                    .map_err(|what| (String::new(), what))?;
                let size = serde_json::to_string(&value).map_or(0, |text| text.len());
                *room = room.saturating_sub(size);
                Ok(value)
            }
            Self::List(items) => {
                let filled = items.iter().enumerate().map(|(at, item)| {
                    let filled = item.part(scope, room);
                    filled.map_err(|error| within(format!("[{at}]"), error))
                });
                Ok(Json::Array(filled.collect::<Result<_, _>>()?))
            }
            Self::Map(fields) => {
                let filled = fields.iter().map(|(name, field)| {
                    let filled = field.part(scope, room);
                    let filled = filled.map_err(|error| within(format!(".{name}"), error))?;
                    Ok((name.clone(), filled))
                });
                let filled: Result<Map<_, _>, (String, String)> = filled.collect();
                Ok(Json::Object(filled?))
            }
        }
    }

    pub(crate) fn uses(&self) -> Uses {
        match self {
            Self::Fixed(_) => Uses::default(),
            Self::Template(template) => template.uses(),
            Self::List(items) => items.iter().map(Self::uses).fold(Uses::default(), Uses::and),
            Self::Map(fields) => {
                let uses = fields.iter().map(|(_, field)| field.uses());
                uses.fold(Uses::default(), Uses::and)
            }
        }
    }
}
