//! Whether somebody may: asked of the cluster, whose answers are kept for a short while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::front_proxy::User;
use super::{GROUP, VERSION};

/// For how long an answer counts, yes or no; as in Kubernetes' own servers.
pub const KEPT: Duration = Duration::from_secs(10);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most answers kept.
const MOST_KEPT: usize = 1_000;
/// Most bytes of a question whose answer is kept: a user may have many groups.
const MOST_BYTES: usize = 16 * 1024;
/// Most questions on their way at once.
const MOST_AT_ONCE: usize = 32;

/// Members of it may do everything, and the cluster need not be asked.
const MASTERS: &str = "system:masters";
/// The API server itself, which finds out by discovery whether we are there.
const AGGREGATOR: &str = "system:kube-aggregator";

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wish {
    /// To read a document of the API.
    Read {
        /// Its path.
        path: String,
    },
    /// To read a metric.
    List {
        /// Of this namespace.
        namespace: String,
        /// By its name.
        metric: String,
    },
}

/// What the cluster says to a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Allowed,
    /// No, and what it says to that, which may be nothing.
    Denied(String),
}

/// The cluster gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("whether this is allowed cannot be found out: {0}")]
pub struct Unanswered(String);

/// Asks the cluster.
pub struct Access {
    reviews: Api<SubjectAccessReview>,
    kept: Mutex<HashMap<(User, Wish), (Instant, Answer)>>,
    turns: Semaphore,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Asks through this client.
    pub fn new(client: kube::Client) -> Self {
        Self {
            reviews: Api::all(client),
            kept: Mutex::new(HashMap::new()),
            turns: Semaphore::new(MOST_AT_ONCE),
        }
    }

    /// Whether `user` may have `wish`. Without an answer it may not.
    pub async fn ask(&self, user: &User, wish: &Wish) -> Result<Answer, Unanswered> {
        let masters = user.groups.iter().any(|group| group == MASTERS);
        let aggregator = user.name == AGGREGATOR && matches!(wish, Wish::Read { .. });
        if masters || aggregator {
            return Ok(Answer::Allowed);
        }
        let question = (user.clone(), wish.clone());
        if let Some(answer) = self.known(&question) {
            return Ok(answer);
        }
        let asked = async {
            let _turn = self.turns.acquire().await;
            let asked_at = Instant::now();
            let reviewed = self
                .reviews
                .create(&PostParams::default(), &review(user, wish))
                .await;
            reviewed.map(|review| (asked_at, review))
        };
        let (asked_at, review) = match timeout(PATIENCE, asked).await {
            Ok(Ok(reviewed)) => reviewed,
            Ok(Err(error)) => return Err(Unanswered(error.to_string())),
            Err(_) => return Err(Unanswered(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        let status = review
            .status
            .ok_or_else(|| Unanswered("an answer without a status".into()))?;
        let answer = if status.allowed && status.denied != Some(true) {
            Answer::Allowed
        } else {
            let why = [status.reason, status.evaluation_error].into_iter().flatten();
            Answer::Denied(why.filter(|why| !why.is_empty()).collect::<Vec<_>>().join("; "))
        };
        self.keep(question, asked_at, answer.clone());
        Ok(answer)
    }

    fn known(&self, question: &(User, Wish)) -> Option<Answer> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = kept.get(question)?;
        (at.elapsed() < KEPT).then(|| answer.clone())
    }

    fn keep(&self, question: (User, Wish), at: Instant, answer: Answer) {
        if size(&question) > MOST_BYTES {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, (at, _)| at.elapsed() < KEPT);
        }
        if kept.len() < MOST_KEPT {
            kept.insert(question, (at, answer));
        }
    }
}

fn size((user, wish): &(User, Wish)) -> usize {
    let wish = match wish {
        Wish::Read { path } => path.len(),
        Wish::List { namespace, metric } => namespace.len() + metric.len(),
    };
    let extra = user
        .extra
        .iter()
        .flat_map(|(key, values)| std::iter::once(key).chain(values));
    let all = user.groups.iter().chain(extra).chain(&user.uid);
    wish + user.name.len() + all.map(|text| text.len() + size_of::<String>()).sum::<usize>()
}

fn review(user: &User, wish: &Wish) -> SubjectAccessReview {
    let (resource, path) = match wish {
        Wish::List { namespace, metric } => (
            Some(ResourceAttributes {
                group: Some(GROUP.into()),
                version: Some(VERSION.into()),
                resource: Some(metric.clone()),
                namespace: Some(namespace.clone()),
                // What a GET of a collection is called.
                verb: Some("list".into()),
                ..ResourceAttributes::default()
            }),
            None,
        ),
        Wish::Read { path } => (
            None,
            Some(NonResourceAttributes {
                path: Some(path.clone()),
                verb: Some("get".into()),
            }),
        ),
    };
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
            resource_attributes: resource,
            non_resource_attributes: path,
        },
        ..SubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests;
