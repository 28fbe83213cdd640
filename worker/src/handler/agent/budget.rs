//! What a service and each of its tenants may spend in a day, counted in Redis for the whole fleet: reserved before a
//! call, corrected after it. What a worker that dies has reserved counts as spent.

use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::ConnectionManager;
use shared::failure::Failure;
use shared::limiter::live;
use shared::subject::Service;

use super::money::{Nano, OVER, show};

static SPEND: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("spend.lua")));

/// How long an event waits whose budget nobody can ask for.
const AWAY: Duration = Duration::from_secs(5);

/// What happens to an event over a budget of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Over {
    /// It waits for the next day.
    #[default]
    Wait,
    /// It becomes a dead letter.
    Refuse,
}

/// The bounds of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bounds {
    /// One event, all its calls and attempts.
    pub(super) event: Option<Nano>,
    /// One tenant in a day; those without a name are one.
    pub(super) tenant: Option<Nano>,
    /// The service in a day.
    pub(super) day: Option<Nano>,
    pub(super) over: Over,
}

/// The purse of one service.
#[derive(Clone)]
pub(super) struct Budget {
    pub(super) redis: ConnectionManager,
    pub(super) service: Service,
    pub(super) bounds: Bounds,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Budget({}, {:?})", self.service, self.bounds)
    }
}

/// A sum that is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reserved {
    sum: Nano,
    /// In which day; `None` when nobody could count it.
    day: Option<i64>,
}

impl Budget {
    /// Reserves a sum for a call.
    ///
    /// # Errors
    /// It would be over a bound; or there is a bound and Redis cannot be asked.
    pub(super) async fn reserve(&self, tenant: &str, sum: Nano) -> Result<Reserved, Failure> {
        let bounded = self.bounds.tenant.is_some() || self.bounds.day.is_some();
        let (over, day, left) = match self.count(tenant, sum as i64, -1).await {
            Ok(counted) => counted,
            Err(error) if bounded => {
                let detail = format!("what is spent today is not known: {error}");
                return Err(Failure::throttled("budget_unknown", detail, AWAY));
            }
            // Nobody has set a bound: the call goes on, and the day's sum lacks it.
            Err(_) => return Ok(Reserved { sum, day: None }),
        };
        let (what, bound) = match over {
            0 => return Ok(Reserved { sum, day: Some(day) }),
            1 => ("service", self.bounds.day),
            _ => ("tenant", self.bounds.tenant),
        };
        let bound = show(bound.unwrap_or_default());
        let detail = format!(
            "with up to {} dollars more the {what} would be over its {bound} of today",
            show(sum)
        );
        Err(match self.bounds.over {
            Over::Wait => Failure::throttled(OVER, detail, Duration::from_secs(left.unsigned_abs().max(1))),
            Over::Refuse => Failure::permanent(OVER, detail),
        })
    }

    /// A call has cost this, of what was reserved.
    pub(super) async fn settle(&self, tenant: &str, reserved: Reserved, cost: Nano) {
        let Some(day) = reserved.day else { return };
        let more = cost as i64 - reserved.sum as i64;
        if more == 0 {
            return;
        }
        if let Err(error) = self.count(tenant, more, day).await {
            tracing::warn!(service = %self.service, %error, "more counts as spent than was: Redis is away");
        }
    }

    /// As it is told to people; `None` where nothing bounds a day.
    pub(super) fn in_force(&self) -> Option<live::Budget> {
        let Bounds { tenant, day, .. } = self.bounds;
        let tag = self.tag();
        day.or(tenant).map(|_| live::Budget { tag, day, tenant })
    }

    fn tag(&self) -> String {
        format!("weir:{{{}:spend}}", self.service)
    }

    async fn count(&self, tenant: &str, sum: i64, day: i64) -> Result<(i64, i64, i64), redis::RedisError> {
        let bound = |bound: Option<Nano>| bound.map_or(-1, |bound| bound as i64);
        let tag = self.tag();
        SPEND
            .key(format!("{tag}:day"))
            .key(format!("{tag}:tenant:{tenant}"))
            .arg(sum)
            .arg(day)
            .arg(bound(self.bounds.day))
            .arg(bound(self.bounds.tenant))
            .invoke_async(&mut self.redis.clone())
            .await
    }
}
