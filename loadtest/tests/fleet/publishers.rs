//! Publishing with any NATS client is enough: the Python example, as a user runs it.

use std::path::Path;
use std::time::Duration;

use loadtest::provider::ProviderConfig;
use tokio::process::Command;

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_published_by_the_python_example_is_worked_off() {
    let mut world = World::new(ProviderConfig::default(), &[]).await;
    let mut worker = world.fleet.start("worker").await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let packages = root.join(".tools/python");
    assert!(
        packages.join("nats").is_dir(),
        "the Python clients are missing: `make setup` installs them"
    );
    let output = Command::new("python3")
        .arg(root.join("examples/python/publish.py"))
        .args(["http", "greeting.sent", r#"{"text": "hello"}"#])
        .env("PYTHONPATH", packages)
        .env("WEIR_NATS_URL", world.fleet.servers.nats.url())
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["stream"], "WEIR_http");
    let id = said["id"].as_str().unwrap();
    assert_eq!(world.result(id).await.state, "done");
    assert_eq!(world.provider.calls(Some(id), 10).len(), 1);
    assert_eq!(worker.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
}
