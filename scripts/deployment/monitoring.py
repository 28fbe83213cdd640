"""Prometheus' configuration, the alerts with their tests, and the dashboard; their metrics are those that the code has."""

import json
import re
import tempfile
from pathlib import Path

import manifests
import tools
from tools import ROOT, run

RULES = ROOT / "deploy/prometheus/rules.yml"
TESTS = ROOT / "deploy/prometheus/rules-tests.yml"
DASHBOARD = ROOT / "deploy/grafana/weir.json"
# What others say of a process that is scraped.
NOT_OURS = {"up"}


def names():
    """Metrics as they are scraped: the names in the code, and what the encoding adds to them."""
    found = set()
    for path in ROOT.glob("*/src/**/*.rs"):
        found |= set(re.findall(r'"((?:weir|process)_[a-z_]+)"', path.read_text()))
    units = {name + unit for name in found for unit in ("", "_seconds", "_bytes")}
    return {name + suffix for name in units for suffix in ("", "_total", "_bucket", "_sum", "_count")}


def expressions():
    """(where, expression) of everything that asks Prometheus."""
    for group in tools.yaml().safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]


def metric_problems():
    """Metrics that nobody has."""
    known, problems = names(), []
    recorded = {
        rule["record"]
        for group in tools.yaml().safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    for where, expression in expressions():
        # Labels, texts and functions aside.
        bare = re.sub(r'"[^"]*"', "", expression)
        bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", "", bare)
        for name in re.findall(r"\b(?:weir[_:][a-z_]+|process_[a-z_]+|up)\b", bare):
            if name not in known | recorded | NOT_OURS:
                problems.append(f"{where}: nothing has the metric {name}")
    return problems


def namespaces():
    """Rules do not add up fleets, and panels show the one that was chosen."""
    problems = []
    for where, expression in expressions():
        if where.startswith("panel"):
            asked = len(re.findall(r"\b(?:weir[_:]|process_|up\{)", expression))
            missing = expression.count('{namespace=~"$namespace"') != asked
        else:
            missing = re.search(r"\b(?:sum|min|max|group|count)(?: by \((?!namespace\b)| ?\((?!by))", expression)
        if missing:
            problems.append(f"{where}: all namespaces are as one in {expression}")
    return problems


def memory():
    """The alert for memory speaks before the container's limit, and not of what is usual."""
    problems, told = [], re.findall(r'job="weir-(\w+)"\} > ([\de.]+)', dict(expressions())["WeirMemory"])
    limits = {
        container["name"]: container["resources"]["limits"]["memory"]
        for workload in manifests.documents("prod")
        for container in workload.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    }
    units = {"Mi": 1 << 20, "Gi": 1 << 30}
    for job, threshold in told:
        limit = int(limits[job][:-2]) * units[limits[job][-2:]]
        if not 0.8 * limit <= float(threshold) <= 0.9 * limit:
            problems.append(f"WeirMemory: {job} above {threshold}, its limit is {limits[job]}")
    if sorted(limits) != sorted(job for job, _ in told):
        problems.append(f"WeirMemory: is for {told}, containers are {sorted(limits)}")
    return problems


def untested():
    """Each alert has a test in which it fires, and a moment at which it has to be silent."""
    alerts = [
        rule["alert"]
        for group in tools.yaml().safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    fires, silent = set(), set()
    for test in tools.yaml().safe_load(TESTS.read_text())["tests"]:
        for asked in test.get("alert_rule_test", []):
            (fires if asked.get("exp_alerts") else silent).add(asked["alertname"])
    problems = [f"rules-tests.yml: {alert} fires in no test" for alert in alerts if alert not in fires]
    return problems + [f"rules-tests.yml: {alert} is silent in no test" for alert in alerts if alert not in silent]


def jobs():
    """Rules and panels ask for jobs that are scraped, by names that other people's jobs do not have."""
    config = tools.yaml().safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    scraped, problems = {job["job_name"] for job in config["scrape_configs"]}, []
    containers = {
        f"weir-{container['name']}"
        for workload in manifests.documents("prod-monitored")
        for container in workload.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    }
    monitor = next(one for one in manifests.documents("prod-monitored") if one["kind"] == "PodMonitor")
    named = {
        "sourceLabels": ["__meta_kubernetes_pod_container_name"],
        "targetLabel": "job",
        "replacement": "weir-$1",
    }
    if any(named not in endpoint["relabelings"] for endpoint in monitor["spec"]["podMetricsEndpoints"]):
        problems.append("PodMonitor weir: does not name its jobs for the containers")
    if scraped != containers:
        problems.append(f"prometheus.yml: has the jobs {sorted(scraped)}, the PodMonitor makes {sorted(containers)}")
    for where, expression in expressions():
        for how, value in re.findall(r'\bjob(=~|=)"([^"]*)"', expression):
            pattern = value if how == "=~" else re.escape(value)
            if not any(re.fullmatch(pattern, job) for job in scraped):
                problems.append(f"{where}: there is no job {value}")
            if any(re.fullmatch(pattern, job.removeprefix("weir-")) for job in scraped):
                problems.append(f"{where}: takes other people's jobs for ours: {value}")
        if len(re.findall(r"\bup\b", expression)) != len(re.findall(r'\bup\{[^}]*job=', expression)):
            problems.append(f"{where}: asks for `up` of anybody's jobs")
    return problems


def check():
    """promtool's own checks and tests, and the dashboard's expressions."""
    promtool = tools.promtool()
    problems = metric_problems()

    def ask(*arguments):
        done = run(promtool, *arguments, merged=True)
        if done.returncode != 0:
            problems.append(f"promtool {' '.join(map(str, arguments[:2]))}: {done.stdout.strip()}")

    ask("check", "config", ROOT / "deploy/prometheus/prometheus.yml")
    ask("test", "rules", TESTS)
    filled = {"$__rate_interval": "1m", "$service": ".*", "$namespace": ".*"}
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$\w+", lambda name: filled[name[0]], expression)}
        for number, (where, expression) in enumerate(expressions())
        if where.startswith("panel")
    ]
    problems += namespaces() + memory() + untested() + jobs()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dashboard.yml"
        file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        ask("check", "rules", file)
    ids = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    if len(set(ids)) != len(ids) or not rules:
        problems.append("the dashboard has no panels, or two of one id")
    return problems
