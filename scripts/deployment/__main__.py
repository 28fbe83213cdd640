"""Renders what is made of other files, and checks everything that Weir is deployed with.

usage: scripts/deploy-check render                 writes k8s/rendered/ and the copies and rules made of one source
       scripts/deploy-check [check] [NAME...]      all checks, or those named
         --programs DIR    built programs, for the check `settings` [target/debug or target/release]

checks: rendered schema custom policy compose dockerfile prometheus settings
Tools are installed into .tools/deployment when first needed. What cannot be had is not checked, and that is said at the
end. Exit codes: 0 nothing wrong was found, 1 something is wrong.
"""

import os
import sys
import time
from pathlib import Path

# Nothing is left beside the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import containers
import manifests
import monitoring
import settings
import tools


def programs(given):
    """The folder with the built programs; the newest when none is given."""
    if given:
        return Path(given)
    target = tools.ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    built = [target / kind for kind in ("debug", "release") if (target / kind / "weir-scheduler").is_file()]
    return max(built, key=lambda folder: (folder / "weir-scheduler").stat().st_mtime, default=None)


def main():
    arguments, given, names = sys.argv[1:], None, []
    while arguments:
        argument = arguments.pop(0)
        if argument in ("-h", "--help"):
            print(__doc__)
            return 0
        if argument == "--programs" and arguments:
            given = arguments.pop(0)
        elif argument.startswith("-"):
            print(__doc__, file=sys.stderr)
            return 64
        else:
            names.append(argument)
    if names == ["render"]:
        manifests.render()
        return 0
    checks = {
        "rendered": manifests.rendered,
        "schema": manifests.schema,
        "custom": manifests.custom,
        "policy": manifests.policy,
        "compose": containers.compose,
        "dockerfile": containers.dockerfile,
        "prometheus": monitoring.check,
        "settings": lambda: settings.check(programs(given)),
    }
    if names[:1] == ["check"]:
        names.pop(0)
    unknown = [name for name in names if name not in checks]
    if unknown:
        print(f"no such check: {', '.join(unknown)}\n{__doc__}", file=sys.stderr)
        return 64
    wrong, missed = [], []
    for name in names or checks:
        began = time.monotonic()
        try:
            problems = checks[name]()
        except tools.Unavailable as why:
            missed.append(f"{name}: {why}")
            print(f"!! {name} NOT CHECKED: {why}", flush=True)
            continue
        for problem in problems:
            print(f"   {name}: {problem}", flush=True)
        wrong += problems
        print(f"{'ok' if not problems else 'XX'} {name} ({time.monotonic() - began:.1f} s)", flush=True)
    for what in missed:
        print(f"\n!! NOT CHECKED: {what}")
    if wrong:
        print(f"\n{len(wrong)} wrong", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
