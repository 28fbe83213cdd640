"""What compose and the manifests tell the programs is what the programs know: every variable, port, path and image.

The programs themselves are asked: `--print-config` with the environment of each container.
"""

import os
import re
from urllib.parse import urlsplit

import containers
import manifests
import references
import tools
from tools import ROOT, Unavailable, run

LAST_TRACES = 3
# What secrets.example.yaml leaves to be filled in, where the programs do not take nothing for an answer.
SECRETS = {
    "WEIR_SOURCE_GITHUB_SECRETS": "4567cdef",
    "WEIR_POSTGRES_URL": "postgres://weir:0123abcd@db.example.com:5432/weir",
}
# Variables of telemetry, which no program prints.
FOREIGN = re.compile(r"OTEL_EXPORTER_OTLP_(ENDPOINT|PROTOCOL)$|SSL_CERT_FILE$")


class Container:
    """A container that runs one of our programs, wherever that is written."""

    def __init__(self, place, name, command, env, ports, grace):
        self.place, self.name, self.command, self.env = place, name, command, env
        self.ports, self.grace = ports, grace
        self.title = f"{place}: {name}"
        self.settings = {}

    def ask(self, programs):
        """Asks the program for its settings; gives what it says against them."""
        program = programs / self.command[0]
        if not program.is_file():
            # `check` tells what the image does not have.
            return []
        # The tools of the tests are told on the command line: that they understand it is all there is to see.
        asked = "--print-config" if self.command[0] != "weir-loadtest" else "--help"
        arguments = [asked] if asked == "--print-config" else [*self.command[1:], asked]
        # The file of authorities is in the container, not here; that something is mounted there, `references` sees.
        env = {name: value for name, value in self.env.items() if name != "SSL_CERT_FILE"}
        done = run(program, *arguments, env={"PATH": os.environ["PATH"]} | env)
        if done.returncode != 0:
            return [f"{self.title}: exit code {done.returncode}: {done.stderr.strip()}"]
        if asked == "--help":
            return [
                f"{self.title}: {option} is no option of {self.command[0]}"
                for option in self.command
                if option.startswith("--") and option not in done.stdout
            ]
        self.settings = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        return []

    def listens(self):
        """Ports that the program listens on."""
        return {
            int(value.rpartition(":")[2])
            for name, value in self.settings.items()
            if name.startswith("WEIR_") and name.endswith("_LISTEN") and value
        }


def seconds(text):
    """Of a duration as compose and Weir write it."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", text))


def amount(text):
    """Of bytes as NATS writes them."""
    number, unit = re.fullmatch(r"(\d+)([KMG]?)B?", text).groups()
    return int(number) * 1024 ** " KMG".index(unit or " ")


def of_compose(kind):
    config = containers.configuration(kind)
    for name, service in config["services"].items():
        if not service["image"].startswith("weir:"):
            continue
        ports = {port["target"] for port in service.get("ports", [])}
        env = {key: value or "" for key, value in service.get("environment", {}).items()}
        yield Container(f"compose {kind}", name, service["command"], env, ports, seconds(service["stop_grace_period"]))


def of_kubernetes(rendering):
    objects = manifests.documents(rendering)
    objects += [
        secret
        for secret in manifests.documents("secrets.example.yaml")
        if secret["metadata"]["name"]
        not in {other["metadata"]["name"].rsplit("-", 1)[0] for other in objects if other["kind"] == "Secret"}
    ]
    for deployment in objects:
        if deployment["kind"] != "Deployment":
            continue
        pod = deployment["spec"]["template"]["spec"]
        for container in pod["containers"]:
            if not container.get("command", [""])[0].startswith("weir"):
                continue
            env = references.environment(container, objects)
            env = {name: value or SECRETS.get(name, "") for name, value in env.items()}
            ports = {port["containerPort"] for port in container["ports"]}
            stop = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            grace = pod["terminationGracePeriodSeconds"] - stop
            yield Container(rendering, container["name"], container["command"], env, ports, grace)


def check(programs):
    """All of it."""
    if programs is None:
        raise Unavailable("no programs are built: cargo build --workspace, or --programs DIR")
    problems = []
    missing = sorted(name for name in containers.programs() - {"healthcheck"} if not (programs / name).is_file())
    if missing:
        return [f"there is no {', '.join(missing)} in {programs}: cargo build --workspace, or --programs DIR"]
    found = [*of_compose("plain"), *of_compose("demo")]
    fleets = [*manifests.RENDERINGS, *manifests.EXAMPLES]
    for rendering in fleets:
        found += of_kubernetes(rendering)
    told, known = set(), set()
    for container in found:
        problems += container.ask(programs)
        told |= {(container.title, name) for name in container.env}
        known |= container.settings.keys()
        if container.settings:
            problems += agrees(container)
    for title, name in sorted(told):
        # A ConfigMap is for all programs; somebody has to read each of its settings.
        if name not in known and name.removesuffix("_FILE") not in known and not FOREIGN.match(name):
            problems.append(f"{title}: no program reads {name}")
    kinds = {container.command[0] for container in found}
    if not {"weir-ingest", "weir-worker", "weir-scheduler"} <= kinds:
        problems.append(f"not all programs were found in compose and manifests: {sorted(kinds)}")
    listened = {port for container in found for port in container.listens()}
    if listened != containers.exposed():
        problems.append(f"Dockerfile exposes {sorted(containers.exposed())}, the programs listen on {sorted(listened)}")
    problems += [
        f"{container.title}: {container.command[0]} is not in the image"
        for container in found
        if container.command[0] not in containers.programs()
    ]
    problems += compose_wiring(found)
    for rendering in fleets:
        problems += references.check(rendering, [one for one in found if one.place == rendering])
    return problems + versions() + health()


def agrees(container):
    """Ports and deadlines of one container."""
    problems, listens = [], container.listens()
    if container.place in manifests.RENDERINGS and container.ports != listens:
        problems.append(f"{container.title}: ports {sorted(container.ports)}, but it listens on {sorted(listens)}")
    if not container.ports <= listens:
        problems.append(f"{container.title}: publishes {sorted(container.ports)}, but listens on {sorted(listens)}")
    needed = seconds(container.settings["WEIR_SHUTDOWN_DEADLINE"]) + LAST_TRACES
    if container.grace <= needed:
        problems.append(f"{container.title}: is killed after {container.grace} s, but takes up to {needed} s to end")
    return problems


def compose_wiring(found):
    """Servers that the programs are told of are services of the same file, on that port; health checks ask the right one."""
    problems = []
    ports = {"nats": 4222, "redis": 6379, "postgres": 5432, "provider": 9000, "jaeger": 4318, "ingest": 8080}
    for kind in ("plain", "demo"):
        services = containers.configuration(kind)["services"]
        for container in (one for one in found if one.place == f"compose {kind}"):
            urls = [value for name, value in container.env.items() if "://" in value]
            urls += [part for part in container.command if "://" in part]
            for url in map(urlsplit, urls):
                if ports.get(url.hostname) != url.port or url.hostname not in services:
                    problems.append(f"{container.title}: {url.hostname}:{url.port} is no server of this file")
            test = services[container.name].get("healthcheck", {}).get("test", [])
            if container.settings and test[:2] != ["CMD", "healthcheck"]:
                problems.append(f"{container.title}: has no health check")
            if container.settings and int(test[2]) not in container.listens():
                problems.append(f"{container.title}: the health check asks port {test[2]}")
        jobs = tools.yaml().safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
        for job in jobs:
            named = next((one for one in found if one.place == f"compose {kind}" and f"weir-{one.name}" == job["job_name"]), None)
            target = job["dns_sd_configs"][0]
            if named is None or target["names"] != [named.name] or target["port"] not in named.listens():
                problems.append(f"prometheus.yml: job {job['job_name']} asks {target}")
    for place in ("compose plain", "compose demo", *manifests.RENDERINGS, *manifests.EXAMPLES):
        there = [one for one in found if one.place == place]
        problems += one_topology(place, there)
        if place in ("compose plain", "compose demo", "dev"):
            problems += capacity(place, there)
    return problems


def one_topology(place, found):
    """The three programs are told the same of the streams."""
    told = {}
    for container in found:
        if container.settings and container.name in ("ingest", "worker", "scheduler"):
            about = ("WEIR_STREAM_", "WEIR_CLAIMS_", "WEIR_DEAD_", "WEIR_SERVICES")
            told[container.name] = {name: value for name, value in container.env.items() if name.startswith(about)}
    if any(one != next(iter(told.values())) for one in told.values()):
        return [f"{place}: the programs are told different things of the streams: {told}"]
    return []


def capacity(place, found):
    """What the fleet sets aside fits what its servers have."""
    nats = (ROOT / "deploy/nats.conf").read_text()
    room = amount(re.search(r"max_file_store: (\w+)", nats)[1])
    if not all(one.settings for one in found if one.name in ("ingest", "worker")):
        # What is wrong with them has been told.
        return []
    settings = next(one.settings for one in found if one.name == "ingest")
    services = settings["WEIR_SERVICES"].count(",") + 1
    taken = int(settings["WEIR_STREAM_MAX_BYTES"]) * services + int(settings["WEIR_CLAIMS_MAX_BYTES"])
    problems = []
    if taken > room:
        problems.append(f"{place}: streams set {taken} bytes aside, nats.conf has {room}")
    if "sync_interval: always" not in nats:
        problems.append("nats.conf does not sync every write")
    postgres = (ROOT / "deploy/postgresql.conf").read_text()
    connections = int(re.search(r"^max_connections = (\d+)", postgres, re.MULTILINE)[1])
    least_and_most = next(one.settings["WEIR_WORKER_POSTGRES_CONNECTIONS"] for one in found if one.name == "worker")
    each = int(least_and_most.rpartition("-")[2])
    # The largest number of workers in either: the dev overlay's autoscaler.
    if each * 3 > connections:
        problems.append(f"{place}: three workers take {each * 3} connections, postgresql.conf has {connections}")
    return problems


def versions():
    """One version of everything: of Weir, and of each server in compose, in the dev overlay and in the tests."""
    problems = []
    version = re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    images = {}
    for name, service in containers.configuration("demo")["services"].items():
        images.setdefault(service["image"].rpartition(":")[0], {})[f"compose {name}"] = service["image"].rpartition(
            ":"
        )[2]
    for rendering in manifests.RENDERINGS:
        for workload in manifests.documents(rendering):
            pod = workload.get("spec", {}).get("template", {}).get("spec", {})
            for container in pod.get("containers", []):
                image, _, tag = container["image"].rpartition(":")
                images.setdefault("weir" if image.endswith("/weir") else image, {})[
                    f"{rendering} {container['name']}"
                ] = tag
    for image, tags in images.items():
        if len(set(tags.values())) != 1 or "latest" in tags.values() or "" in tags.values():
            problems.append(f"image {image} has several versions, or none: {tags}")
    problems += [
        f"{where}: image weir:{tag}, but this is {version}" for where, tag in images["weir"].items() if tag != version
    ]
    nats = re.search(r"^nats_version=(\S+)", (ROOT / "scripts/setup").read_text(), re.MULTILINE)[1]
    problems += [
        f"{where}: nats:{tag}, tested with {nats}"
        for where, tag in images["nats"].items()
        if not tag.startswith(f"{nats}-")
    ]
    for path in ("k8s/README.md", "Dockerfile", "README.md"):
        text = (ROOT / path).read_text()
        problems += [
            f"{path}: weir:{tag}, but this is {version}"
            for tag in re.findall(r"\bweir:(\d[\w.]*\w)", text)
            if tag != version
        ]
    return problems


def health():
    """The paths that probes, health checks and Prometheus ask are those that every program serves."""
    code = (ROOT / "shared/src/health.rs").read_text()
    served = set(re.findall(r'\.route\(\s*"([^"]+)"', code))
    wanted = {"/metrics", "/health/ready"}
    for rendering in manifests.RENDERINGS:
        for workload in manifests.documents(rendering):
            for container in workload.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
                command = container.get("command", [""])[0]
                if command.startswith("weir-") and command != "weir-loadtest":
                    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                        wanted.add(container[probe]["httpGet"]["path"])
            for endpoint in workload.get("spec", {}).get("podMetricsEndpoints", []):
                wanted.add(endpoint["path"])
    return [f"nothing serves {path}" for path in sorted(wanted - served)]
