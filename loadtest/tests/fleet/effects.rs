//! Writes are made once, whoever dies in the middle of one; and what nobody can know becomes what the service's policy
//! says.

use std::time::Duration;

use loadtest::fleet::Member;
use loadtest::provider::ProviderConfig;
use loadtest::provider::faults::Faults;
use serde_json::json;
use shared::dead_letter::DeadLetter;
use shared::event::Event;

use super::world::{World, calls, until};

/// A worker that hits its failpoint ends within this.
const DIES_WITHIN: Duration = Duration::from_secs(30);

/// A fleet whose calls end within a second, so that their ends are unknown soon.
async fn world(settings: &[(&str, &str)]) -> World {
    let own = [
        ("WEIR_SERVICE_GITHUB_TIMEOUT", "1s"),
        ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
        ("WEIR_SERVICE_GITHUB_RETRIES", "1s, 1s, 1s"),
        ("WEIR_SERVICE_GITHUB_BREAKER", "off"),
        ("WEIR_SERVICE_SLACK_TIMEOUT", "1s"),
        ("WEIR_SERVICE_SLACK_LIMIT", "none"),
        ("WEIR_SERVICE_SLACK_LIMITS", "none"),
    ];
    World::new(ProviderConfig::default(), &[&own[..], settings].concat()).await
}

fn comments(count: usize) -> impl Iterator<Item = Event> {
    let post = json!({"method": "POST", "path": "/repos/octo/cat/issues/7/comments", "body": {"body": "Looks good."}});
    calls(count, &post)
}

fn message() -> impl Iterator<Item = Event> {
    let args = json!({"channel": "C1", "text": "Looks good."});
    calls(1, &json!({"method": "chat.postMessage", "args": args}))
}

/// Writes that have taken place.
fn written(world: &World) -> u32 {
    world.provider.effects().values().sum()
}

/// A worker that dies at this failpoint; then one that lives.
async fn killed_at(world: &mut World, failpoint: &str) -> Member {
    let settings = [("WEIR_FAILPOINT", failpoint)];
    let mut worker = world.fleet.launch("worker", &settings).unwrap();
    assert_eq!(
        worker.ended(DIES_WITHIN).await.unwrap(),
        None,
        "it ends by a signal"
    );
    world.fleet.start("worker").await.unwrap()
}

async fn codes(world: &World) -> Vec<(String, String)> {
    sqlx::query_as("SELECT state, code FROM results ORDER BY code")
        .fetch_all(&world.database)
        .await
        .unwrap()
}

async fn ended(world: &World, service: &str) -> Vec<(String, String)> {
    until("an outcome", async || {
        (!codes(world).await.is_empty()).then_some(())
    })
    .await;
    world.emptied(&format!("WEIR_{service}")).await;
    world.emptied("WEIR_RETRY").await;
    let outcomes = codes(world).await;
    let notes: i64 = sqlx::query_scalar("SELECT count(*) FROM intents")
        .fetch_one(&world.database)
        .await
        .unwrap();
    let unknown = outcomes.iter().filter(|(_, code)| code == "unknown").count();
    assert_eq!(
        notes, unknown as i64,
        "a note outlives what nobody knows, and nothing else"
    );
    outcomes
}

fn only(state: &str, code: &str) -> Vec<(String, String)> {
    vec![(state.into(), code.into())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_whose_writer_died_after_the_call_is_found_and_not_written_again() {
    let mut world = world(&[]).await;
    world.publish("github", comments(1)).await;
    let _worker = killed_at(&mut world, "worker.called").await;
    assert_eq!(ended(&world, "github").await, only("done", "found"));
    assert_eq!(written(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_whose_writer_died_before_the_call_is_written() {
    let mut world = world(&[]).await;
    world.publish("github", comments(1)).await;
    let _worker = killed_at(&mut world, "worker.intended").await;
    assert_eq!(ended(&world, "github").await, only("done", "http_201"));
    assert_eq!(written(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_writer_died_after_the_call_is_found_too() {
    let mut world = world(&[]).await;
    world.publish("slack", message()).await;
    let _worker = killed_at(&mut world, "worker.called").await;
    assert_eq!(ended(&world, "slack").await, only("done", "found"));
    assert_eq!(written(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_makes_a_dead_letter_of_what_nobody_knows() {
    let mut world = world(&[("WEIR_SERVICE_GITHUB_UNKNOWN", "dead")]).await;
    world.publish("github", comments(1)).await;
    let _worker = killed_at(&mut world, "worker.called").await;
    assert_eq!(ended(&world, "github").await, only("dead", "unknown"));
    assert_eq!(written(&world), 1);
    assert_eq!(world.left("WEIR_DEAD").await, 1);
}

/// The dead letter stands for all deliveries of the event, until somebody replays it.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_called_again_by_a_replay_only() {
    let mut world = world(&[("WEIR_SERVICE_GITHUB_UNKNOWN", "dead")]).await;
    let event: Vec<Event> = comments(1).collect();
    world.publish("github", event.iter().cloned()).await;
    let _worker = killed_at(&mut world, "worker.called").await;
    assert_eq!(ended(&world, "github").await, only("dead", "unknown"));
    world.publish("github", event).await;
    until("another letter", async || {
        (world.left("WEIR_DEAD").await == 2).then_some(())
    })
    .await;
    assert_eq!(written(&world), 1);
    let letters = world.js.get_stream("WEIR_DEAD").await.unwrap();
    let letter = DeadLetter::read(&letters.get_raw_message(1).await.unwrap()).unwrap();
    letter.replay(&world.js).await.unwrap();
    world.done(1).await;
    assert_eq!(written(&world), 2);
}

/// The comment was written, and then the API could not be asked. Once it can, a replay of the letter finds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_looks_before_it_calls() {
    let mut world = world(&[("WEIR_SERVICE_GITHUB_UNKNOWN", "dead")]).await;
    world.publish("github", comments(1)).await;
    let mut worker = killed_at(&mut world, "worker.called").await;
    assert_eq!(ended(&world, "github").await, only("dead", "unknown"));
    worker.stop(DIES_WITHIN).await.unwrap();
    let looks = [("WEIR_SERVICE_GITHUB_UNKNOWN", "look-up")];
    let _worker = world.fleet.start_many("worker", 1, &looks).await.unwrap();
    let letters = world.js.get_stream("WEIR_DEAD").await.unwrap();
    let letter = DeadLetter::read(&letters.get_raw_message(1).await.unwrap()).unwrap();
    letter.replay(&world.js).await.unwrap();
    world.done(1).await;
    assert_eq!(codes(&world).await, only("done", "found"));
    assert_eq!(written(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_makes_the_call_again() {
    let mut world = world(&[("WEIR_SERVICE_GITHUB_UNKNOWN", "retry")]).await;
    world.publish("github", comments(1)).await;
    let _worker = killed_at(&mut world, "worker.called").await;
    assert_eq!(ended(&world, "github").await, only("done", "http_201"));
    assert_eq!(written(&world), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_cannot_be_looked_for_is_not_repeated_either() {
    let mut world = world(&[]).await;
    let dispatch =
        json!({"method": "POST", "path": "/repos/octo/cat/dispatches", "body": {"event_type": "go"}});
    world.publish("github", calls(1, &dispatch)).await;
    let _worker = killed_at(&mut world, "worker.called").await;
    assert_eq!(ended(&world, "github").await, only("dead", "unknown"));
    assert_eq!(world.provider.stats().total.accepted, 1);
}

/// Three messages of one event, on two workers at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn three_copies_at_the_same_time_have_one_effect() {
    let mut world = world(&[]).await;
    let events: Vec<Event> = comments(40).collect();
    for _ in 0..3 {
        world.publish("github", events.iter().cloned()).await;
    }
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.done(40).await;
    world.emptied("WEIR_github").await;
    world.emptied("WEIR_RETRY").await;
    assert_eq!(written(&world), 40);
    assert_eq!(codes(&world).await.len(), 40);
}

/// The provider does its work and its answer is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_came_is_no_reason_to_write_again() {
    let mut world = world(&[(
        "WEIR_SERVICE_GITHUB_RETRIES",
        "10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms",
    )])
    .await;
    let faults = Faults {
        closes: 0.2,
        late_errors: 0.2,
        swallows: 0.1,
        ..Faults::default()
    };
    world.provider.set_faults(faults).unwrap();
    world.publish("github", comments(30)).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    until("30 outcomes", async || {
        (codes(&world).await.len() == 30).then_some(())
    })
    .await;
    let outcomes = codes(&world).await;
    assert!(outcomes.iter().all(|(state, _)| state == "done"), "{outcomes:?}");
    assert_eq!(written(&world), 30);
}

async fn suspects(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM suspects")
        .fetch_one(&world.database)
        .await
        .unwrap()
}

/// What ends its worker each time is buried, and its neighbours live on.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ends_its_workers_is_buried_after_the_third() {
    let mut world = world(&[]).await;
    world.publish("github", calls(1, &json!({"path": "/user"}))).await;
    let mut died = 0;
    loop {
        // It dies of the first call that it makes, as one does of such a message.
        let settings = [("WEIR_FAILPOINT", "worker.intended")];
        let mut worker = world.fleet.launch("worker", &settings).unwrap();
        let buried = until("a burial", async || {
            (world.left("WEIR_DEAD").await == 1).then_some(())
        });
        tokio::select! {
            ended = worker.ended(DIES_WITHIN) => assert_eq!(ended.unwrap(), None),
            () = buried => {
                until("it is forgotten", async || (suspects(&world).await == 0).then_some(())).await;
                break;
            }
        }
        died += 1;
    }
    assert_eq!(died, 3);
    assert_eq!(ended(&world, "github").await, only("dead", "ends_its_worker"));
    let _worker = world.fleet.start("worker").await.unwrap();
    world.publish("github", calls(5, &json!({"path": "/user"}))).await;
    world.done(5).await;
}
