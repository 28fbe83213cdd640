//! What a service and its tenants may spend in a day (UTC), and what of it is spent.

use async_nats::HeaderMap;
use serde_json::{Value, json};
use shared::connect;
use shared::limiter::live::Now;
use shared::subject::{Service, header, headers, lane_and_tenant};
use worker::handler::agent::money::{OVER, show};

use crate::failure::Failure;
use crate::fleet::{self, Reached};
use crate::limits::now;
use crate::moment;
use crate::terminal::clean;

const DAY: u64 = 86_400;

/// A budget of a day, in nano-dollars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Budget {
    /// Whose.
    pub(super) of: String,
    /// What sets it.
    pub(super) setting: String,
    pub(super) bound: u64,
    /// Spent, or reserved for calls under way.
    pub(super) spent: u64,
    /// What the call could have cost that was last turned away today.
    pub(super) over: Option<u64>,
    /// Seconds until the day ends.
    pub(super) left: u64,
}

/// What Redis has of a sum: its day, what is spent in it, what was over it, and in which day.
type Sum = (Option<u64>, Option<u64>, Option<u64>, Option<u64>);

impl Budget {
    /// Whether a call like the one that was turned away would be so still.
    pub(super) fn holds(&self) -> bool {
        self.over
            .is_some_and(|over| self.spent.saturating_add(over) > self.bound)
    }

    pub(super) fn sentence(&self) -> String {
        let (of, spent, bound) = (clean(&self.of, 80), show(self.spent), show(self.bound));
        let ends = moment::until(self.left as f64);
        let setting = &self.setting;
        match self.over.filter(|_| self.holds()) {
            Some(over) => format!(
                "The day's budget of {of} is in the way ({setting}): {spent} of {bound} dollars are spent or reserved, and a \
                 call that could cost up to {} more did not begin. The day ends at {ends}.",
                show(over)
            ),
            None => format!(
                "Of the day's budget of {of} ({setting}) {spent} of {bound} dollars are spent or reserved; the day ends at \
                 {ends}."
            ),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "of": self.of, "setting": self.setting, "nano_usd": self.bound, "spent_nano_usd": self.spent,
            "in_the_way": self.holds(), "ends_at": moment::stamp(self.left as f64),
        })
    }
}

/// How the budgets stand that a worker says are in force: the service's, and that of a tenant if one is asked for. The one
/// without a name is of all events without one.
pub(super) async fn read(
    url: &str,
    service: &Service,
    now: &Now,
    tenant: Option<&str>,
) -> Result<Vec<Budget>, String> {
    let Some(said) = &now.budget else {
        return Ok(Vec::new());
    };
    let name = service.as_str().to_ascii_uppercase().replace('-', "_");
    let setting = |what: &str| format!("WEIR_SERVICE_{name}_BUDGET_{what}");
    let day = said
        .day
        .map(|bound| ("day".to_owned(), service.to_string(), setting("DAY"), bound));
    let theirs = said.tenant.zip(tenant).map(|(bound, tenant)| {
        let of = match tenant {
            "" => "events without a tenant".to_owned(),
            tenant => format!("the tenant {tenant}"),
        };
        (format!("tenant:{tenant}"), of, setting("TENANT"), bound)
    });
    let failed = |error: String| format!("Redis at {}: {}", fleet::shown(url), clean(&error, 200));
    let mut redis = connect::redis(url).map_err(|error| failed(error.to_string()))?;
    let mut all = Vec::new();
    for (key, of, setting, bound) in day.into_iter().chain(theirs) {
        let (time, sum): ((u64, u64), Sum) = redis::pipe()
            .cmd("TIME")
            .cmd("HMGET")
            .arg(format!("{}:{key}", said.tag))
            .arg(&["day", "spent", "over_day", "over"])
            .query_async(&mut redis)
            .await
            .map_err(|error| failed(error.to_string()))?;
        all.push(standing(time.0, sum, |spent, over, left| Budget {
            of,
            setting,
            bound,
            spent,
            over,
            left,
        }));
    }
    Ok(all)
}

/// How the budgets stand that a message was put off for, in sentences; `None` when it was put off for none. Where they
/// cannot be read, why.
pub(super) async fn of(
    reached: &Reached,
    service: &Service,
    map: &HeaderMap,
) -> Result<Option<Vec<String>>, Failure> {
    if header(Some(map), headers::PUT_OFF) != Some(OVER) {
        return Ok(None);
    }
    let Some(now) = now(&reached.js, service).await? else {
        return Ok(Some(Vec::new()));
    };
    // Where it comes back to, below `retry`, names its tenant.
    let target = header(Some(map), headers::SCHEDULE_TARGET).unwrap_or_default();
    let (_, tenant) = lane_and_tenant(target.strip_prefix("retry.").unwrap_or(target));
    let read = read(
        &reached.redis_url,
        service,
        &now,
        Some(tenant.unwrap_or_default()),
    )
    .await;
    Ok(Some(match read {
        Ok(budgets) => budgets.iter().map(Budget::sentence).collect(),
        Err(why) => vec![format!("What is spent is not known. {why}")],
    }))
}

/// What of a sum is of today.
fn standing(time: u64, sum: Sum, budget: impl FnOnce(u64, Option<u64>, u64) -> Budget) -> Budget {
    let (of, spent, over_of, over) = sum;
    // A clock that went back opens no new day.
    let day = (time / DAY).max(of.unwrap_or(0));
    let spent = spent.filter(|_| of == Some(day)).unwrap_or(0);
    let over = over.filter(|_| over_of == Some(day));
    budget(spent, over, ((day + 1) * DAY).saturating_sub(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u64, sum: Sum) -> Budget {
        standing(time, sum, |spent, over, left| Budget {
            of: "agent".into(),
            setting: "WEIR_SERVICE_AGENT_BUDGET_DAY".into(),
            bound: 100_000_000_000,
            spent,
            over,
            left,
        })
    }

    #[test]
    fn a_budget_in_the_way_says_which_how_much_and_until_when() {
        let (spent, over) = (Some(99_990_000_000), Some(20_000_000));
        let said = at(20 * DAY + 60, (Some(20), spent, Some(20), over));
        assert!(said.holds());
        assert!(
            said.sentence().starts_with(
                "The day's budget of agent is in the way (WEIR_SERVICE_AGENT_BUDGET_DAY): 99.99 of 100 dollars are spent or \
                 reserved, and a call that could cost up to 0.02 more did not begin. The day ends at "
            ),
            "{}",
            said.sentence()
        );
        assert!(said.sentence().contains(" (in 23h"), "{}", said.sentence());
        // Something was given back; of yesterday; nothing is known.
        for free in [
            (Some(20), Some(99_000_000_000), Some(20), over),
            (Some(19), spent, Some(19), over),
            (None, None, None, None),
        ] {
            let said = at(20 * DAY, free);
            assert!(!said.holds(), "{free:?}");
            assert!(
                said.sentence().starts_with("Of the day's budget of agent (WEIR_"),
                "{}",
                said.sentence()
            );
        }
        assert_eq!(at(20 * DAY, (Some(19), spent, None, None)).spent, 0);
        assert_eq!(at(20 * DAY - 1, (Some(20), spent, None, None)).left, DAY + 1);
    }
}
