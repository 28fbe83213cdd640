"""Prometheus' configuration, the alerts with their tests, and the dashboard; their metrics are those that the code has."""

import json
import re
import tempfile
from pathlib import Path

import tools
from tools import ROOT, run

RULES = ROOT / "deploy/prometheus/rules.yml"
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


def check():
    """promtool's own checks and tests, and the dashboard's expressions."""
    promtool = tools.promtool()
    problems = metric_problems()

    def ask(*arguments):
        done = run(promtool, *arguments, merged=True)
        if done.returncode != 0:
            problems.append(f"promtool {' '.join(map(str, arguments[:2]))}: {done.stdout.strip()}")

    ask("check", "config", ROOT / "deploy/prometheus/prometheus.yml")
    ask("test", "rules", ROOT / "deploy/prometheus/rules-tests.yml")
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m").replace("$service", ".*")}
        for number, (where, expression) in enumerate(expressions())
        if where.startswith("panel")
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dashboard.yml"
        file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        ask("check", "rules", file)
    ids = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    if len(set(ids)) != len(ids) or not rules:
        problems.append("the dashboard has no panels, or two of one id")
    return problems
