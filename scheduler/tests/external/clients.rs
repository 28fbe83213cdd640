//! Clients that nobody here wrote, through the aggregation layer: every `kubectl` of this machine, the Python client, and
//! the client of kube-rs. One that is not there is said not to be.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, discovery};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::stage::{DEPTH, Stage};

/// Where one of them may be beside `PATH`.
const ELSEWHERE: [&str; 1] = ["/usr/lib/google-cloud-sdk/bin"];

struct Front {
    stage: Stage,
    url: String,
    home: TempDir,
}

impl Front {
    async fn new() -> Self {
        let stage = Stage::new().await;
        stage.cluster.aggregate(stage.url.clone(), stage.aggregator());
        let url = stage.cluster.listen().await;
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config"), kubeconfig(&url)).unwrap();
        Self { stage, url, home }
    }

    /// Whether a program ended well, and what it said on both outputs.
    async fn run(&self, program: &Path, arguments: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            .kill_on_drop(true);
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env_remove(proxy);
        }
        let ended = timeout(Duration::from_secs(60), command.output())
            .await
            .unwrap()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ended.status.success(), text(ended.stdout), text(ended.stderr))
    }

    async fn good(&self, program: &Path, arguments: &[&str]) -> String {
        let (good, said, complained) = self.run(program, arguments).await;
        assert!(good, "{} {arguments:?}: {said}{complained}", program.display());
        said
    }
}

/// A kubeconfig for this API server.
pub(crate) fn kubeconfig(url: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
        "current-context": "x",
    })
    .to_string()
}

fn kubectls() -> BTreeSet<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(ELSEWHERE.map(PathBuf::from));
    let files = directories
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten();
    let named = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name == "kubectl" || name.starts_with("kubectl.1.")
    };
    files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(named)
        .collect()
}

/// Past the harness, which keeps to itself what a test prints that passes.
fn not_shown(what: &str) {
    let _ = writeln!(std::io::stderr(), "\n*** NOT SHOWN: {what} ***\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_reads_metrics() {
    let found = kubectls();
    if found.is_empty() {
        not_shown("there is no kubectl (scripts/setup installs Debian's)");
    }
    for kubectl in found {
        // A cache of its own each: one must not live on what another has found out.
        let front = Front::new().await;
        let version = front
            .run(&kubectl, &["version", "--client", "-o", "json"])
            .await
            .1;
        let version: Value = serde_json::from_str(&version).unwrap();
        eprintln!(
            "{}: {}",
            kubectl.display(),
            version["clientVersion"]["gitVersion"]
        );

        let raw = front
            .good(
                &kubectl,
                &["get", "--raw", &format!("{DEPTH}?labelSelector=service%3Dgithub")],
            )
            .await;
        let raw: Value = serde_json::from_str(&raw).unwrap();
        assert_eq!(raw["items"][0]["value"], "12");

        let resources = front
            .good(
                &kubectl,
                &[
                    "api-resources",
                    "--api-group=external.metrics.k8s.io",
                    "--no-headers",
                ],
            )
            .await;
        assert_eq!(resources.lines().count(), 3, "{resources}");
        let resources = front.good(&kubectl, &["api-resources", "--no-headers"]).await;
        assert!(
            resources.contains("weir_worker_demand") && resources.contains("pods"),
            "{resources}"
        );
        assert!(
            front
                .good(&kubectl, &["api-versions"])
                .await
                .contains("external.metrics.k8s.io/v1beta1")
        );

        let metric = "weir_worker_demand.v1beta1.external.metrics.k8s.io";
        let table = front.good(&kubectl, &["get", metric]).await;
        let lines: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["SERVICE", "VALUE", "OBSERVED"], "{table}");
        assert_eq!(
            (&lines[1][..2], &lines[2][..2]),
            (&["github", "1500m"][..], &["slack", "250m"][..])
        );
        let one = front
            .good(
                &kubectl,
                &["get", metric, "-l", "service in (slack)", "--no-headers"],
            )
            .await;
        assert!(one.starts_with("slack") && one.lines().count() == 1, "{one}");

        for (path, told) in [
            (DEPTH.replace("depth", "width"), "NotFound"),
            (format!("{DEPTH}?labelSelector=%2C"), "BadRequest"),
        ] {
            let (good, _, complained) = front.run(&kubectl, &["get", "--raw", &path]).await;
            assert!(!good && complained.contains(told), "{complained}");
        }
        front.stage.cluster.allow("hpa", false);
        let elsewhere = DEPTH.replace("default", "elsewhere");
        let (good, _, complained) = front.run(&kubectl, &["get", "--raw", &elsewhere]).await;
        assert!(!good && complained.contains("Forbidden"), "{complained}");
    }
}

const PYTHON: &str = r#"
import sys
sys.path.insert(0, sys.argv[2])
from kubernetes import client
api = client.ApiClient(client.Configuration(host=sys.argv[1]))
custom = client.CustomObjectsApi(api)
def get(metric, **more):
    return custom.list_namespaced_custom_object("external.metrics.k8s.io", "v1beta1", "default", metric, **more)
items = get("weir_queue_depth")["items"]
assert {i["metricLabels"]["service"]: i["value"] for i in items} == {"github": "12", "slack": "3"}, items
items = get("weir_worker_demand", label_selector="service notin (slack)")["items"]
assert [i["value"] for i in items] == ["1500m"], items
for metric, more, status in [("nothing", {}, 404), ("weir_queue_depth", {"label_selector": "a b"}, 400)]:
    try:
        get(metric, **more)
        sys.exit("no error for " + metric)
    except client.ApiException as e:
        assert e.status == status, e
groups = client.ApisApi(api).get_api_versions().groups
assert [g.name for g in groups] == ["external.metrics.k8s.io"], groups
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_reads_metrics() {
    let front = Front::new().await;
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/kubernetes");
    let packages = packages.to_str().unwrap();
    let (good, _, complained) = front
        .run(Path::new("python3"), &["-c", PYTHON, &front.url, packages])
        .await;
    assert!(good, "{complained} (scripts/setup installs the package)");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_kube_rs_reads_metrics() {
    let front = Front::new().await;
    let config = kube::Config::new(front.url.parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let group = discovery::group(&client, "external.metrics.k8s.io")
        .await
        .unwrap();
    let names: Vec<_> = group
        .recommended_resources()
        .into_iter()
        .map(|(resource, _)| resource.plural)
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let newer = discovery::Discovery::new(client.clone())
        .run_aggregated()
        .await
        .unwrap();
    assert!(newer.has_group("external.metrics.k8s.io"));

    let kind = GroupVersionKind::gvk("external.metrics.k8s.io", "v1beta1", "ExternalMetricValueList");
    let resource = ApiResource::from_gvk_with_plural(&kind, "weir_queue_depth");
    let metrics = Api::<DynamicObject>::namespaced_with(client.clone(), "default", &resource);
    let selected = kube::api::ListParams::default().labels("service=github");
    let list = metrics.list(&selected).await.unwrap();
    assert_eq!(
        (list.items.len(), &list.items[0].data["value"]),
        (1, &"12".into())
    );

    let nothing = ApiResource::from_gvk_with_plural(&kind, "nothing");
    let nothing = Api::<DynamicObject>::namespaced_with(client, "default", &nothing);
    match nothing.list(&selected).await {
        Err(kube::Error::Api(status)) => assert_eq!((status.code, status.reason.as_str()), (404, "NotFound")),
        other => panic!("{other:?}"),
    }
}
