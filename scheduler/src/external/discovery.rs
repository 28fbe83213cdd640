//! What this API consists of, in the forms in which Kubernetes' clients ask for it.

use serde_json::{Value, json};

use super::accept::Wanted;
use super::{GROUP, VERSION};
use crate::figures::Figure;

/// The kind of every answer about a metric.
pub const LIST_KIND: &str = "ExternalMetricValueList";

/// The group of the newer discovery documents, which hold all groups with all their resources.
const DISCOVERY_GROUP: &str = "apidiscovery.k8s.io";
/// Its versions; both look the same.
const DISCOVERY_VERSIONS: [&str; 2] = ["v2", "v2beta1"];
/// The kind of such a document.
const DISCOVERY_KIND: &str = "APIGroupDiscoveryList";

/// What is at `/apis`, and the media type in which it is: the newer document when it is wanted, else the list of groups.
/// `None` when neither is wanted.
pub fn groups(wanted: &[Wanted<'_>]) -> Option<(String, Value)> {
    wanted.iter().find_map(|wanted| {
        if *wanted == Wanted::PLAIN {
            let list = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [described()]});
            return Some(("application/json".to_owned(), list));
        }
        let version = wanted
            .version
            .filter(|version| DISCOVERY_VERSIONS.contains(version))?;
        let ours = wanted.group == Some(DISCOVERY_GROUP) && wanted.kind == Some(DISCOVERY_KIND);
        // The aggregator takes the document only under the very media type that it asked for.
        let media = format!("application/json;g={DISCOVERY_GROUP};v={version};as={DISCOVERY_KIND}");
        ours.then(|| (media, everything(version)))
    })
}

/// What is at `/apis/<group>`.
pub fn group() -> Value {
    let mut group = described();
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    group
}

/// What is at `/apis/<group>/<version>`: the metrics.
pub fn resources() -> Value {
    let resources = Figure::ALL.map(|figure| {
        json!({
            "name": figure.name(),
            "singularName": "",
            "namespaced": true,
            "kind": LIST_KIND,
            "verbs": ["get"],
        })
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": resources,
    })
}

fn described() -> Value {
    let version = json!({"groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION});
    json!({"name": GROUP, "versions": [version], "preferredVersion": version})
}

fn everything(version: &str) -> Value {
    let resources = Figure::ALL.map(|figure| {
        json!({
            "resource": figure.name(),
            "responseKind": {"group": "", "version": "", "kind": LIST_KIND},
            "scope": "Namespaced",
            "singularResource": "",
            "verbs": ["get"],
        })
    });
    json!({
        "kind": DISCOVERY_KIND,
        "apiVersion": format!("{DISCOVERY_GROUP}/{version}"),
        "metadata": {},
        "items": [{
            "metadata": {"name": GROUP, "creationTimestamp": null},
            "versions": [{"version": VERSION, "resources": resources, "freshness": "Current"}],
        }],
    })
}
