//! Where the calls of services go: from what a worker has in effect.

use std::collections::BTreeMap;

/// A line each. `worker` is what a worker has in effect.
pub(super) fn calls(services: &[String], worker: &BTreeMap<String, String>) -> Vec<String> {
    let mut lines = Vec::new();
    for service in services {
        let effect = Effect {
            worker,
            prefix: format!("WEIR_SERVICE_{}", upper(service)),
        };
        match effect.of("HANDLER").unwrap_or(service) {
            "agent" => lines.extend(effect.models(service)),
            "analysis" => lines.extend(effect.repositories(service)),
            _ => lines.extend(effect.api(service)),
        }
    }
    lines
}

fn upper(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// What of one service is in effect.
struct Effect<'a> {
    worker: &'a BTreeMap<String, String>,
    prefix: String,
}

impl<'a> Effect<'a> {
    /// A setting that is not empty.
    fn of(&self, setting: &str) -> Option<&'a str> {
        let value = self.worker.get(&format!("{}_{setting}", self.prefix))?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    fn api(&self, service: &str) -> Option<String> {
        let url = self.of("URL")?;
        let token = token(self.of("TOKEN").is_some());
        Some(format!("{service} -> {url} ({token})"))
    }

    /// Each model is asked where it is.
    fn models(&self, service: &str) -> Vec<String> {
        let names = self.of("MODELS").unwrap_or_default().split(',');
        let line = |name: &str| {
            let own = format!("MODEL_{}", upper(name));
            let id = self.of(&own)?;
            let url = self.of(&format!("{own}_URL")).or_else(|| self.of("URL"))?;
            // A worker does not start where the service's token would go to another host.
            let has = self
                .of(&format!("{own}_TOKEN"))
                .or_else(|| self.of("TOKEN"))
                .is_some_and(|token| token != "none");
            Some(format!("{service}/{name} -> {url} ({id}, {})", token(has)))
        };
        names.filter_map(line).collect()
    }

    /// Repositories are fetched from wherever events say, without a token, and folders are read.
    fn repositories(&self, service: &str) -> Vec<String> {
        let names = self
            .of("URL")
            .map(|url| format!("{service} -> {url} (owner/name)"));
        let others = match self.of("ROOTS") {
            Some(roots) => format!("{service} -> https://... that events name, folders below {roots}"),
            None => format!("{service} -> https://... that events name"),
        };
        names.into_iter().chain([others]).collect()
    }
}

fn token(has: bool) -> &'static str {
    if has { "with a token" } else { "no token" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_repositories_are_where_they_are() {
        let worker = [
            ("WEIR_SERVICE_AGENT_HANDLER", ""),
            ("WEIR_SERVICE_AGENT_URL", "https://api.openai.com/v1"),
            ("WEIR_SERVICE_AGENT_TOKEN", "(set)"),
            ("WEIR_SERVICE_AGENT_MODELS", "fast,big-one,local"),
            ("WEIR_SERVICE_AGENT_MODEL_FAST", "openai:gpt-x"),
            ("WEIR_SERVICE_AGENT_MODEL_FAST_URL", ""),
            ("WEIR_SERVICE_AGENT_MODEL_BIG_ONE", "anthropic:claude-x"),
            (
                "WEIR_SERVICE_AGENT_MODEL_BIG_ONE_URL",
                "https://api.anthropic.com/v1",
            ),
            ("WEIR_SERVICE_AGENT_MODEL_BIG_ONE_TOKEN", "(set)"),
            ("WEIR_SERVICE_AGENT_MODEL_LOCAL", "compatible:y"),
            ("WEIR_SERVICE_AGENT_MODEL_LOCAL_URL", "http://127.0.0.1:8000/v1"),
            ("WEIR_SERVICE_AGENT_MODEL_LOCAL_TOKEN", "none"),
            ("WEIR_SERVICE_CODE_HANDLER", "analysis"),
            ("WEIR_SERVICE_CODE_URL", "https://github.com"),
            ("WEIR_SERVICE_CODE_ROOTS", "/srv/code"),
            ("WEIR_SERVICE_BILLING_HANDLER", "http"),
            ("WEIR_SERVICE_BILLING_URL", "http://127.0.0.1:9"),
        ];
        let worker = worker.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let services = ["agent", "code", "billing"].map(str::to_owned);
        let lines = calls(&services, &worker.into());
        assert_eq!(
            lines,
            [
                "agent/fast -> https://api.openai.com/v1 (openai:gpt-x, with a token)",
                "agent/big-one -> https://api.anthropic.com/v1 (anthropic:claude-x, with a token)",
                "agent/local -> http://127.0.0.1:8000/v1 (compatible:y, no token)",
                "code -> https://github.com (owner/name)",
                "code -> https://... that events name, folders below /srv/code",
                "billing -> http://127.0.0.1:9 (no token)",
            ]
        );
    }
}
