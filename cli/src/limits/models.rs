//! The models that a service asks, each under limits of its own. A model's limit is called `<model>/<limit>`.

use serde_json::{Value, json};
use shared::limiter::live::{self, Now};

use super::buckets::{self, Buckets, Limit};

/// A model, and how its limits stand.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// Whose it is and its id there.
    pub(crate) id: String,
    /// Where it is asked.
    pub(crate) url: String,
    /// What a worker would say of it if it were a service.
    pub(crate) now: Now,
    /// Called as the settings call them.
    pub(crate) limits: Vec<Limit>,
}

impl Model {
    fn new(now: &Now, name: &str, said: &live::Model) -> Self {
        let now = Now {
            tag: said.tag.clone(),
            provider: said.provider.clone(),
            limits: said.limits.clone(),
            models: live::Models::new(),
            ..now.clone()
        };
        Self {
            name: name.to_owned(),
            id: said.id.clone(),
            url: said.url.clone(),
            limits: buckets::limits(&now),
            now,
        }
    }

    /// Its limits, called as people call them.
    pub(crate) fn named(&self) -> impl Iterator<Item = Limit> {
        self.limits.iter().map(|limit| Limit {
            name: format!("{}/{}", self.name, limit.name),
            ..limit.clone()
        })
    }

    /// Which it is, for people.
    pub(crate) fn told(&self) -> String {
        format!("{} at {}", self.id, self.url)
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "model": self.id,
            "url": self.url,
            "provider": self.now.provider,
            "tag": self.now.tag,
            "limits": self.limits.iter().map(Limit::json).collect::<Vec<_>>(),
        })
    }
}

/// The models of a service, without how their limits stand.
pub(crate) fn models(now: &Now) -> Vec<Model> {
    let models = now.models.iter();
    models.map(|(name, said)| Model::new(now, name, said)).collect()
}

/// Reads how their limits stand.
pub(crate) async fn read(buckets: &Buckets, models: &mut [Model]) -> Result<(), String> {
    for model in models {
        model.limits = buckets.limits(&model.now).await?;
    }
    Ok(())
}

/// What all limits of a service and its models are called.
pub(crate) fn names(now: &Now) -> Vec<String> {
    let own = now.limits.keys().cloned();
    let models = models(now);
    let theirs = models.iter().flat_map(Model::named).map(|limit| limit.name);
    own.chain(theirs).collect()
}
