"""docker-compose.yml as Docker Compose reads it, and the Dockerfile."""

import fnmatch
import json
import os
import re
import tempfile
from pathlib import Path

import tools
from tools import ROOT, run

# What people fill in. Hexadecimal digits, as .env.example asks for.
FILLED = {"POSTGRES_PASSWORD": "0123abcd", "WEIR_SOURCE_GITHUB_SECRETS": "4567cdef"}


def environment_file(filled):
    """.env.example, filled in."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return (
        "\n".join(f"{name}={filled[name]}" if (name := line.split("=")[0]) in filled else line for line in lines) + "\n"
    )


def read(source):
    """What Docker Compose says of docker-compose.yml with these settings: a file, or what is filled in."""
    # Nothing of whoever runs the check.
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
        if isinstance(source, dict):
            file.write(environment_file(source))
            file.flush()
            source = file.name
        return run(tools.compose(), "--env-file", source, "config", "--format", "json", env=env)


def configuration(kind):
    """docker-compose.yml as it is run: `plain` with .env.example filled in, or `demo`."""
    done = read(FILLED if kind == "plain" else ROOT / "deploy/demo/settings")
    if done.returncode != 0 or "is not set" in done.stderr:
        raise ValueError(f"{kind}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def compose():
    """Both ways of starting it parse, what is missing from .env is told, and every file that is mounted is there."""
    problems = []
    for name in FILLED:
        without = read(FILLED | {name: ""})
        if without.returncode == 0 or "see .env.example" not in without.stderr:
            problems.append(f"{name} may be empty, and nobody is told: {without.stderr.strip()}")
    for kind in ("plain", "demo"):
        try:
            config = configuration(kind)
        except ValueError as error:
            problems.append(str(error))
            continue
        services = config["services"]
        for name, service in services.items():
            for mount in service.get("volumes", []):
                if mount["type"] == "bind" and not Path(mount["source"]).exists():
                    problems.append(f"{kind}: {name} mounts {mount['source']}, which is not there")
                if mount["type"] == "volume" and mount["source"] not in config["volumes"]:
                    problems.append(f"{kind}: {name} mounts the volume {mount['source']}, which is none")
            for other in service.get("depends_on", {}):
                if "healthcheck" not in services[other]:
                    problems.append(f"{kind}: {name} waits for {other}, which has no health check")
            for port in service.get("ports", []):
                if port.get("host_ip") != "127.0.0.1":
                    problems.append(f"{kind}: {name} publishes {port['published']} to everybody")
    return problems


def stages():
    """(base image, instructions) of each stage of the Dockerfile."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    found = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            found.append((rest.split(" AS ")[0], []))
        elif found and word and not word.startswith("#"):
            found[-1][1].append((word, rest.strip()))
    return found


def sent(path):
    """Whether .dockerignore lets this file into the build: the last pattern that fits it, or a folder above it, counts."""
    allowed = True
    above = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().rstrip("/")
        if not pattern or pattern.startswith("#"):
            continue
        exception, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        parts = [pattern, pattern.removeprefix("**/")]
        if any(fits(name, part) for name in above for part in parts):
            allowed = exception
    return allowed


def fits(path, pattern):
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(map(fnmatch.fnmatch, names, wanted))


def dockerfile():
    """Linted, and what it copies, builds and installs is what the workspace has."""
    problems = []
    done = run(tools.hadolint(), "--no-color", ROOT / "Dockerfile", merged=True)
    if done.returncode != 0:
        problems += done.stdout.strip().splitlines()
    manifest = (ROOT / "Cargo.toml").read_text()
    members = re.findall(r'"([^"]+)"', re.search(r"^members = \[(.*?)\]", manifest, re.DOTALL | re.MULTILINE)[1])
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard").stdout.splitlines()
    needed = ["Cargo.toml", "Cargo.lock", "deploy/healthcheck.rs"]
    needed += [
        path for path in tracked if path.split("/")[0] in members and path.split("/")[1] not in ("tests", "target")
    ]
    problems += [f".dockerignore keeps {path} out of the build" for path in needed if not sent(path)]
    for path in (".env", "deploy/worker.env", "deploy/scheduler.env", ".git/config", ".weir/token", "shared/.env", "ingest/target/x"):
        if sent(path):
            problems.append(f".dockerignore lets {path} into the build")
    rust = re.search(r'^rust-version = "([\d.]+)"', manifest, re.MULTILINE)[1]
    (builder, _), (last, final) = stages()[0], stages()[-1]
    if not builder.startswith(f"rust:{rust}-"):
        problems.append(f"Dockerfile builds with {builder}, Cargo.toml asks for Rust {rust}")
    debian = {"bookworm": "12", "trixie": "13"}[builder.rpartition("-")[2]]
    if f"debian{debian}" not in last:
        problems.append(f"Dockerfile builds on {builder} and runs on {last}, which has another glibc")
    if ("USER", "65532:65532") not in final:
        problems.append("Dockerfile does not end with the user 65532:65532")
    copied = programs()
    built = [name for name in binaries(members) if name not in copied]
    problems += [f"Dockerfile leaves out {name}" for name in built]
    return problems


def programs():
    """The programs of the image."""
    text = " ".join(rest for _, instructions in stages() for word, rest in instructions if word == "RUN")
    return set(re.search(r"for program in (.*?);", text)[1].split()) | {"healthcheck"}


def exposed():
    """The ports of the image."""
    return {int(port) for word, rest in stages()[-1][1] if word == "EXPOSE" for port in rest.split()}


def binaries(members):
    """Programs of the workspace."""
    for member in members:
        yield from re.findall(r'\[\[bin\]\]\s+name = "([^"]+)"', (ROOT / member / "Cargo.toml").read_text())
