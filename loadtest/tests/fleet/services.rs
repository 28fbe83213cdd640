//! The services that ship, through real workers: calls that go together, things that are created once, credentials that
//! change, answers that are known already.

use std::sync::LazyLock;
use std::time::Duration;

use loadtest::provider::ledger::Counts;
use loadtest::provider::{Api, ProviderConfig};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, LineEnding};
use rsa::rand_core::OsRng;
use serde_json::{Value, json};
use shared::event::{Data, Event, EventId};

use super::world::{World, calls};

/// A worker that hits its failpoint ends within this.
const DIES_WITHIN: Duration = Duration::from_secs(30);

/// A private key made for this run.
static KEY: LazyLock<String> = LazyLock::new(|| {
    let key = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
    key.to_pkcs1_pem(LineEnding::LF).unwrap().to_string()
});

/// A fleet with all services of the simulated provider.
async fn world(settings: &[(&str, &str)]) -> World {
    let own = [
        ("WEIR_SERVICES", "github,slack,http,linear,drive"),
        ("WEIR_SERVICE_LINEAR_TOKEN", "lin_api_test"),
        ("WEIR_SERVICE_DRIVE_TOKEN", "ya29.test"),
        ("WEIR_SERVICE_LINEAR_RETRIES", "1s, 1s, 1s, 1s"),
        ("WEIR_SERVICE_DRIVE_RETRIES", "1s, 1s, 1s, 1s"),
        ("WEIR_SERVICE_LINEAR_LIMIT", "100 per second, burst 20"),
        ("WEIR_SERVICE_LINEAR_LIMITS", "none"),
        ("WEIR_SERVICE_LINEAR_TIMEOUT", "2s"),
        ("WEIR_SERVICE_DRIVE_TIMEOUT", "2s"),
    ];
    let mut world = World::new(ProviderConfig::default(), &[&own[..], settings].concat()).await;
    let url = world.provider.url();
    let settings = &mut world.fleet.settings;
    settings.insert("WEIR_SERVICE_LINEAR_URL".into(), format!("{url}/linear/graphql"));
    settings.insert("WEIR_SERVICE_DRIVE_URL".into(), url);
    world
}

fn events(kind: &str, count: usize, data: impl Fn(usize) -> Value) -> Vec<Event> {
    let event = |n| Event {
        data: Data::json(data(n).to_string()),
        ..Event::new(EventId::generate(), kind)
    };
    (0..count).map(event).collect()
}

fn made(world: &World, api: Api) -> Counts {
    world.provider.stats().api.get(&api).copied().unwrap_or_default()
}

/// So many events of a service, and the calls that they took.
async fn grouped(service: &str, api: Api, asked: Vec<Event>) {
    let mut world = world(&[]).await;
    let count = asked.len();
    world.publish(service, asked).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    world.done(count as i64).await;
    let made = made(&world, api);
    println!("{service}: {count} events in {} calls, {made:?}", made.calls);
    world.no_breach();
    assert!(made.calls as usize * 5 <= count, "{made:?} for {count} events");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_asked_for_in_batches() {
    let files = events(
        "file.get",
        300,
        |n| json!({"id": format!("file-{n}"), "fields": "id,name"}),
    );
    grouped("drive", Api::Drive, files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_to_linear_go_together() {
    let query = "query($id: String!) { issue(id: $id) { id title } }";
    let issues = events(
        "call",
        300,
        |n| json!({"query": query, "variables": {"id": format!("issue-{n}")}}),
    );
    grouped("linear", Api::Linear, issues).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_to_github_go_together() {
    let query = "query($name: String!) { repository(owner: \"octo\", name: $name) { id } }";
    let asked = events(
        "graphql",
        300,
        |n| json!({"query": query, "variables": {"name": format!("r-{n}")}}),
    );
    grouped("github", Api::Github, asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_spoils_nobody_elses() {
    let mut world = world(&[]).await;
    let file = |n: usize| match n {
        3 => json!({"id": "missing"}),
        7 => json!({"id": "secret"}),
        n => json!({"id": format!("file-{n}")}),
    };
    world.publish("drive", events("file.get", 30, file)).await;
    let query = "query($id: String!) { issue(id: $id) { id } }";
    let issue = |n: usize| {
        let id = if n == 3 {
            "missing".to_owned()
        } else {
            format!("issue-{n}")
        };
        json!({"query": query, "variables": {"id": id}})
    };
    world.publish("linear", events("call", 30, issue)).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    world.done(57).await;
    for service in ["drive", "linear"] {
        world.emptied(&format!("WEIR_{service}")).await;
    }
    assert_eq!(world.left("WEIR_DEAD").await, 3);
    world.no_breach();
}

/// A worker that dies after its first call; then one that lives.
async fn killed_after_a_call(world: &mut World) -> loadtest::fleet::Member {
    let mut worker = world
        .fleet
        .launch("worker", &[("WEIR_FAILPOINT", "worker.called")])
        .unwrap();
    assert_eq!(
        worker.ended(DIES_WITHIN).await.unwrap(),
        None,
        "it ends by a signal"
    );
    world.fleet.start("worker").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn issues_are_created_once_though_their_writer_died() {
    let mut world = world(&[]).await;
    let issues = events(
        "issue.create",
        20,
        |n| json!({"teamId": "t", "title": format!("Issue {n}")}),
    );
    world.publish("linear", issues).await;
    let _worker = killed_after_a_call(&mut world).await;
    world.done(20).await;
    world.emptied("WEIR_linear").await;
    assert_eq!(world.provider.created().0, 20);
    println!("{:?}", made(&world, Api::Linear));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_created_once_though_their_writer_died() {
    let mut world = world(&[]).await;
    let file = |n: usize| json!({"metadata": {"name": format!("n{n}")}, "content": "hello", "content_type": "text/plain"});
    world.publish("drive", events("file.create", 5, file)).await;
    let _worker = killed_after_a_call(&mut world).await;
    world.done(5).await;
    world.emptied("WEIR_drive").await;
    assert_eq!(world.provider.created().1, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_given_one_token_and_what_has_not_changed_is_free() {
    let settings = [
        ("WEIR_SERVICE_GITHUB_TOKEN", ""),
        ("WEIR_SERVICE_GITHUB_APP_ID", "7"),
        ("WEIR_SERVICE_GITHUB_APP_INSTALLATION", "42"),
        ("WEIR_SERVICE_GITHUB_APP_KEY", &KEY),
    ];
    let mut world = world(&settings).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    world
        .publish("github", calls(1, &json!({"path": "/repos/octo/cat"})))
        .await;
    world.done(1).await;
    world
        .publish("github", calls(40, &json!({"path": "/repos/octo/cat"})))
        .await;
    world.done(41).await;
    let seen = world.provider.calls(None, usize::MAX);
    let tokens = seen
        .iter()
        .filter(|call| call.path.ends_with("/access_tokens"))
        .count();
    let unchanged = seen.iter().filter(|call| call.status == 304).count();
    assert_eq!((tokens, unchanged, seen.len()), (1, 40, 42));
    let core = &world.provider.stats().limits["github core"];
    assert_eq!(core.allowed, 1, "{core:?}");
    world.no_breach();
}
