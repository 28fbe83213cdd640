"""The Kubernetes manifests: rendering, schemas, policies."""

import difflib
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import tools
from tools import ROOT, Unavailable, run

K8S = ROOT / "k8s"
RENDERED = K8S / "rendered"

# What is rendered: a folder below k8s, and components on top of it.
RENDERINGS = {
    "dev": ("overlays/dev", []),
    "prod": ("overlays/prod", []),
    "keda": ("overlays/keda", []),
    "prod-monitored": ("overlays/prod", ["prometheus", "vpa"]),
}
# Rendered to be checked, and not kept: the patches of k8s/examples on a fleet.
EXAMPLES = {
    "examples": ("examples", []),
    "examples-keda": ("examples/keda", []),
    "examples-dev": ("examples/dev", []),
}
# Components that exclude each other: kustomize has to stop, whichever comes first.
APART = ("external-metrics", "keda")
# The oldest version that k8s/README.md speaks of, and the newest that there are schemas for.
VERSIONS = ("1.30", "1.37")
# Made of one file, because kustomize reads none outside of its folder.
COPIES = {
    "deploy/nats.conf": "k8s/overlays/dev/nats.conf",
    "deploy/postgresql.conf": "k8s/overlays/dev/postgresql.conf",
    "deploy/grafana/weir.json": "k8s/components/prometheus/weir.json",
}
RULES = ("k8s/components/prometheus/rules.yaml", "deploy/prometheus/rules.yml")

# Groups whose schemas Kubernetes does not have; `custom` checks them.
MODELS = {
    "cert-manager.io": "cert-manager",
    "gateway.networking.k8s.io": "gateway-api",
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
}
# Groups whose schemas are not to be had as a package.
WITHOUT = {"autoscaling.k8s.io"}

# What the policy check finds and why it stays so. Everywhere:
EXCEPTIONS = {
    "CKV_K8S_11": "no CPU limits: throttled by quota, a process is slow while the node is idle",
    "CKV_K8S_15": "images have tags that are not moved; pulling them at every start would need the registry then",
    "CKV_K8S_35": "every process also reads NAME_FILE; the example keeps to variables, which all secret managers write",
    "CKV_K8S_43": "digests are of your registry; overlays/prod/fleet says where they go",
}
# In one rendering:
OWN_EXCEPTIONS = {
    "dev": {"CKV_K8S_40": "the images of NATS, Redis and PostgreSQL come with users below 10000"},
    "prod": {
        "CKV_K8S_38": "the scheduler asks the Kubernetes API whether whoever asks may (components/external-metrics)"
    },
}
OWN_EXCEPTIONS["prod-monitored"] = OWN_EXCEPTIONS["prod"]


def kustomize(folder, components):
    kubectl = tools.kubectl()
    if not components:
        done = run(kubectl, "kustomize", K8S / folder)
    else:
        with tempfile.TemporaryDirectory(dir=tools.HOME) as above:
            way = lambda what: os.path.relpath(K8S / what, Path(above).resolve())
            (Path(above) / "kustomization.yaml").write_text(
                json.dumps(
                    {
                        "resources": [way(folder)],
                        "components": [way(f"components/{name}") for name in components],
                    }
                )
            )
            done = run(kubectl, "kustomize", above)
    if done.returncode != 0 or done.stderr.strip():
        raise ValueError(f"kubectl kustomize {folder} {components}: {done.stderr.strip()}")
    return done.stdout


def made():
    """Each file that is made of others, by its path, with its text."""
    texts = {target: (ROOT / source).read_text() for source, target in COPIES.items()}
    lines = (ROOT / RULES[0]).read_text().splitlines(keepends=True)
    rules = lines[next(n for n, line in enumerate(lines) if line == "  groups:\n") :]
    texts[RULES[1]] = f"# Made of {RULES[0]} by `scripts/deploy-check render`.\n" + "".join(
        line.removeprefix("  ") for line in rules
    )
    return texts


def renderings():
    for name, (folder, components) in RENDERINGS.items():
        above = "".join(f" + components/{part}" for part in components)
        head = f"# k8s/{folder}{above}, made by `scripts/deploy-check render`. To read and to compare, not to edit.\n"
        yield RENDERED / f"{name}.yaml", head + kustomize(folder, components)


def render():
    for path, text in made().items():
        (ROOT / path).write_text(text)
        print(path)
    RENDERED.mkdir(exist_ok=True)
    kept = set()
    for path, text in renderings():
        path.write_text(text)
        kept.add(path)
        print(path.relative_to(ROOT))
    for path in set(RENDERED.iterdir()) - kept:
        path.unlink()


def rendered():
    """The files that are made of others are as they would be made now."""
    problems = []

    def compare(path, text):
        there = path.read_text() if path.is_file() else ""
        if there != text:
            lines = difflib.unified_diff(there.splitlines(), text.splitlines(), lineterm="", n=0)
            told = "\n      ".join(list(lines)[2:12])
            problems.append(f"{path.relative_to(ROOT)} is not up to date: scripts/deploy-check render\n      {told}")

    for path, text in made().items():
        compare(ROOT / path, text)
    try:
        for path, text in renderings():
            compare(path, text)
        for name in EXAMPLES:
            source(name)
    except ValueError as error:
        problems.append(str(error))
    named = "".join(path.read_text() for path in K8S.glob("examples/**/kustomization.yaml"))
    for path in K8S.glob("examples/**/*.*"):
        if path.name != "kustomization.yaml" and path.name not in named:
            problems.append(f"{path.relative_to(ROOT)} is in no kustomization, so nobody checks it")
    for order in (APART, APART[::-1]):
        try:
            kustomize("overlays/prod/fleet", order)
            problems.append(f"kustomize takes {' and '.join(order)} together, in this order")
        except ValueError:
            continue
    return problems


@functools.cache
def source(name):
    """A rendering as it is kept, an example as it comes out, or a file below k8s."""
    if name in EXAMPLES:
        return kustomize(*EXAMPLES[name])
    return (RENDERED / f"{name}.yaml" if name in RENDERINGS else K8S / name).read_text()


def documents(name):
    """The objects of a rendering, of an example, or of a file below k8s."""
    return [document for document in tools.yaml().safe_load_all(source(name)) if document]


def group(document):
    return document["apiVersion"].rpartition("/")[0]


def title(document):
    return f"{document['kind']} {document['metadata']['name']}"


def schema():
    """Every object that Kubernetes itself knows, strictly: an unknown field is an error."""
    folder = tools.python_packages("validate", tools.VALIDATE)
    sys.path.insert(0, str(folder))
    import kubernetes_validate

    problems, seen = [], 0
    for name in [*RENDERINGS, *EXAMPLES, "secrets.example.yaml"]:
        for document in documents(name):
            if group(document) in MODELS or group(document) in WITHOUT:
                continue
            # It has schemas of what the API server itself serves, not of what is registered with it.
            if group(document) == "apiregistration.k8s.io":
                problems += api_service(document)
                continue
            for version in VERSIONS:
                seen += 1
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    problems.append(f"{name}: {title(document)} under {version}: {error.message}")
                except kubernetes_validate.SchemaNotFoundError as error:
                    problems.append(f"{name}: {title(document)} under {version}: no schema: {error.message}")
    if not seen:
        problems.append("nothing was checked")
    return problems


def api_service(document):
    """As its Go type says."""
    spec, known = (
        document["spec"],
        {"group", "version", "groupPriorityMinimum", "versionPriority", "service", "caBundle"},
    )
    problems = [f"APIService: unknown field {field}" for field in spec.keys() - known]
    if document["metadata"]["name"] != f"{spec['version']}.{spec['group']}":
        problems.append("APIService: its name is not version.group")
    if not {"name", "namespace", "port"} >= spec["service"].keys():
        problems.append("APIService: unknown field of service")
    return problems


def custom():
    """Objects of other projects, by their published models: values, and no field that the model does not know."""
    node, folder = tools.models()
    checked = []
    for name in [*RENDERINGS, *EXAMPLES]:
        for document in documents(name):
            if group(document) in MODELS:
                checked.append({"from": name, "package": MODELS[group(document)], "object": document})
    script = ROOT / "scripts/deployment/custom.mjs"
    # Its imports are looked for from where it lies.
    copy = folder / "custom.mjs"
    copy.write_bytes(script.read_bytes())
    done = subprocess.run(
        [str(node), str(copy)], input=json.dumps(checked), capture_output=True, text=True, check=False, cwd=folder
    )
    if done.returncode != 0:
        return [done.stderr.strip()]
    found = json.loads(done.stdout)
    problems = found["problems"]
    if found["checked"] != len(checked) or not checked:
        problems.append(f"{found['checked']} of {len(checked)} objects were checked")
    without = {title(document) for name in RENDERINGS for document in documents(name) if group(document) in WITHOUT}
    for what in sorted(without):
        print(f"!! custom: {what} has no published model: NOT CHECKED by schema", flush=True)
    return problems


def policy():
    """checkov, with exceptions of which each has a reason, and none that is not needed."""
    folder = tools.python_packages("checkov", tools.CHECKOV)
    env = os.environ | {"PYTHONPATH": str(folder), "LOG_LEVEL": "ERROR", "BC_SKIP_MAPPING": "TRUE"}
    files = [argument for name in RENDERINGS for argument in ("--file", RENDERED / f"{name}.yaml")]
    done = run(
        sys.executable, "-m", "checkov.main", *files, "--framework", "kubernetes", "--skip-download", "--quiet",
        "--compact", "--output", "json",
        env=env,
    )  # fmt: skip
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise Unavailable(f"checkov says nothing of use: {done.stderr.strip()[-300:]}") from error
    found = found[0] if isinstance(found, list) else found
    problems, used = [], set()
    if found["summary"]["passed"] < 100 * len(RENDERINGS) or found["summary"]["parsing_errors"]:
        problems.append(f"hardly anything was checked: {found['summary']}")
    for failed in found["results"]["failed_checks"]:
        name = Path(failed["file_path"]).stem
        if failed["check_id"] in EXCEPTIONS | OWN_EXCEPTIONS.get(name, {}):
            used.add(failed["check_id"])
        else:
            problems.append(f"{name}: {failed['check_id']} {failed['check_name']}: {failed['resource']}")
    all_excused = EXCEPTIONS.keys() | {check for own in OWN_EXCEPTIONS.values() for check in own}
    problems += [f"the exception for {check} is not needed" for check in sorted(all_excused - used)]
    return problems
