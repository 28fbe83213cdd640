//! What the models of a service wait for: it is their limits that its calls fall under.

use super::budgets::Budget;
use super::limits::Limits;
use super::plan;
use crate::terminal::clean;

/// One for each model.
pub(super) fn sentences(limits: &Limits) -> Vec<String> {
    let sentence = |model: &crate::limits::models::Model| {
        let why = match plan::in_the_way(&model.limits) {
            Some(limit) => plan::because(limit),
            None if limits.away.is_some() => "nobody can say how its limits stand.".to_owned(),
            None if limits.budgets.iter().any(Budget::holds) => {
                "no limit is in its way, but the budget of the day is.".to_owned()
            }
            None => "no limit is in its way.".to_owned(),
        };
        format!(
            "Model {} ({}): {why}",
            clean(&model.name, 80),
            clean(&model.told(), 200)
        )
    };
    limits.models.iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use shared::limiter::live::Now;

    use super::*;
    use crate::limits::models::{models, names};

    #[test]
    fn each_model_is_named() {
        let now: Now = serde_json::from_str(
            r#"{"tag": "{agent:0}", "provider": "other", "away": "stop", "ahead": 100, "at": 0, "worker": "w", "set": 0,
                "limits": {}, "models": {"fast": {"id": "openai:gpt-x", "url": "https://api.openai.com/v1",
                "tag": "{agent.fast:0}", "provider": "openai",
                "limits": {"tokens": {"rule": "600 per minute", "shadow": false, "apart": false}}}}}"#,
        )
        .unwrap();
        assert_eq!(names(&now), ["fast/tokens"]);
        let told =
            |away: Option<&str>| sentences(&Limits::of(models(&now), away.map(str::to_owned))).remove(0);
        let which = "Model fast (openai:gpt-x at https://api.openai.com/v1): ";
        assert_eq!(told(None), format!("{which}no limit is in its way."));
        assert!(told(Some("Redis is away")).contains("nobody can say"));
        let mut limits = Limits::of(models(&now), None);
        limits.budgets = vec![Budget {
            of: "agent".into(),
            setting: "WEIR_SERVICE_AGENT_BUDGET_DAY".into(),
            bound: 100,
            spent: 99,
            over: Some(2),
            left: 60,
        }];
        let budget = format!("{which}no limit is in its way, but the budget of the day is.");
        assert_eq!(sentences(&limits), [budget]);
    }
}
