"""Where everything of the demo lies."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
DATA = ROOT / ".weir" / "demo"
LOGS = DATA / "logs"
GITHUB = ROOT / "examples" / "payloads" / "github"
PULL_REQUEST = ROOT / "examples" / "payloads" / "review" / "pull_request.opened.json"
RULES = ROOT / "examples" / "rules" / "review.toml"
