//! What the fleet promises, proved by breaking things under load: scenarios, each with a seed, each ended by an account
//! of every event from the client to the simulated provider, the database and the streams.

mod account;
mod client;
mod probe;
mod scenarios;
mod scene;
pub mod table;

use std::fmt::Display;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::{Instant, timeout};

pub use account::Told;
pub use scenarios::all;

/// Longest that one scenario may take.
const SCENARIO_WITHIN: Duration = Duration::from_secs(300);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Seconds, for the tests.
    Short,
    /// As long as it takes in life.
    Long,
}

impl Length {
    /// One of two figures.
    fn of<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

/// How a scenario is to be played.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Decides the moments.
    pub seed: u64,
    /// How much of everything.
    pub length: Length,
}

type Play = Box<dyn Fn(Order) -> LocalBoxFuture<'static, Result<Told, Trouble>> + Send + Sync>;

/// One thing that goes wrong.
pub struct Scenario {
    /// What it is called, in tests too: `[a-z0-9_]`.
    pub name: String,
    /// What happens, for people.
    pub what: String,
    play: Play,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Scenario {
    fn new<F>(
        name: impl Into<String>,
        what: impl Into<String>,
        play: impl Fn(Order) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Told, Trouble>> + 'static,
    {
        Self {
            name: name.into(),
            what: what.into(),
            play: Box::new(move |order| Box::pin(play(order))),
        }
    }

    /// Plays it. `Err` when it could not be played to its end; what did not hold is told in [`Told`].
    pub async fn play(&self, order: Order) -> Result<Told, Trouble> {
        let played = timeout(SCENARIO_WITHIN, (self.play)(order)).await;
        let late = |_| Trouble::Failed(format!("not over after {SCENARIO_WITHIN:?}"));
        let named = |why: String| format!("{} with seed {}: {why}", self.name, order.seed);
        let seeded = |trouble| match trouble {
            Trouble::Failed(why) => Trouble::Failed(named(why)),
            Trouble::Unplayable(why) => Trouble::Unplayable(named(why)),
        };
        played.map_err(late).flatten().map_err(seeded)
    }
}

/// Why a scenario was not played to its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Something went wrong.
    #[error("{0}")]
    Failed(String),
    /// It cannot be played here, for want of a privilege, a library or a feature.
    #[error("NOT PLAYED: {0}")]
    Unplayable(String),
}

impl Trouble {
    fn at<E: Display>(doing: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Failed(format!("{doing}: {error}"))
    }
}

/// Waits for a condition.
async fn until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T, Trouble> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(Trouble::Failed(format!("waited {deadline:?} in vain for {what}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
