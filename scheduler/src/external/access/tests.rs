use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::*;

/// Asks a cluster that answers with this status after this time; and how often it was asked.
fn access(status: Value, takes: Duration) -> (Access, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let answer = post(move |Json(mut review): Json<Value>| {
        counted.fetch_add(1, Ordering::Relaxed);
        review["status"] = status.clone();
        async move {
            tokio::time::sleep(takes).await;
            Json(review)
        }
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let client = kube::Client::new(Router::new().route(path, answer), "default");
    (Access::new(client), asked)
}

fn user(name: &str) -> User {
    User {
        name: name.into(),
        ..User::default()
    }
}

fn list(metric: &str) -> Wish {
    Wish::List {
        namespace: "default".into(),
        metric: metric.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_for_ten_seconds_from_the_question() {
    for (allowed, answer) in [(true, Answer::Allowed), (false, Answer::Denied(String::new()))] {
        let (access, asked) = access(json!({"allowed": allowed}), Duration::from_secs(4));
        let ask = async || access.ask(&user("hpa"), &list("m")).await.unwrap();
        assert_eq!(ask().await, answer);
        tokio::time::advance(Duration::from_millis(5_900)).await;
        assert_eq!((ask().await, asked.load(Ordering::Relaxed)), (answer.clone(), 1));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!((ask().await, asked.load(Ordering::Relaxed)), (answer, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_no_clear_yes_is_a_no() {
    let ask = async |status: Value| {
        let (access, _) = access(status, Duration::ZERO);
        access.ask(&user("hpa"), &list("m")).await
    };
    let denied = |why: &str| Ok(Answer::Denied(why.into()));
    assert_eq!(
        ask(json!({"allowed": true, "denied": true, "reason": "torn"})).await,
        denied("torn")
    );
    let faulty = json!({"allowed": false, "reason": "", "evaluationError": "no such role"});
    assert_eq!(ask(faulty).await, denied("no such role"));
    assert_eq!(
        ask(json!({"allowed": true, "evaluationError": "a webhook"})).await,
        Ok(Answer::Allowed)
    );
    ask(Value::Null).await.unwrap_err();
    assert_eq!(ask(json!({})).await, denied(""));
    ask(json!({"allowed": "yes"})).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_takes_too_long_has_not_answered() {
    let (access, asked) = access(json!({"allowed": true}), Duration::from_secs(60));
    let error = access.ask(&user("hpa"), &list("m")).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 5 s"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_bounded() {
    let (access, asked) = access(json!({"allowed": true}), Duration::ZERO);
    let kept = || access.kept.lock().unwrap().len();
    for n in 0..MOST_KEPT + 10 {
        access.ask(&user("hpa"), &list(&n.to_string())).await.unwrap();
    }
    assert_eq!(kept(), MOST_KEPT);
    tokio::time::advance(KEPT).await;
    access.ask(&user("hpa"), &list("m")).await.unwrap();
    assert_eq!(kept(), 1, "the old ones make room");
    let before = asked.load(Ordering::Relaxed);
    let mut many = user("hpa");
    many.groups = vec!["group".into(); MOST_BYTES / 20];
    for _ in 0..2 {
        access.ask(&many, &list("m")).await.unwrap();
        access
            .ask(&user("hpa"), &list(&"m".repeat(MOST_BYTES)))
            .await
            .unwrap();
    }
    assert_eq!((kept(), asked.load(Ordering::Relaxed)), (1, before + 4));
}
