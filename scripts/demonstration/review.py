"""The flow that ships: a pull request is opened, its code is analysed, a model is asked, its answer becomes a comment,
and a channel hears of it. Each step is an event of its own, made by the rules of examples/rules/review.toml."""

import json
import os
import shutil
import subprocess
import textwrap
import time
import uuid

from demonstration.child import Failed
from demonstration.places import BIN, DATA, PULL_REQUEST, ROOT, RULES
from demonstration.talk import get, query, say, webhook

CODE = DATA / "code"
TOKEN = "demo"
WITHIN = 30
# What the simulated model answers, whatever it is asked.
ANSWER = (
    "`greet` in greet.py is the riskiest part to change: it has the most branches, and everything else in the file calls "
    "it. Look first at what an unknown language does."
)
# What is done, event by event.
STEPS = (
    "GitHub is asked what the pull request is now",
    "the code is read",
    "a model is asked about it",
    "its answer is written under the pull request",
    "the channel is told",
)


def settings(provider):
    """What the fleet needs for it, besides GitHub and Slack."""
    return {
        "WEIR_RULES_FILE": RULES,
        "WEIR_SERVICE_ANALYSIS_ROOTS": CODE,
        "WEIR_SERVICE_ANALYSIS_CACHE": DATA / "repositories",
        "WEIR_SERVICE_AGENT_MODELS": "small",
        "WEIR_SERVICE_AGENT_MODEL_SMALL": "openai:simulated",
        "WEIR_SERVICE_AGENT_MODEL_SMALL_URL": f"{provider}/openai/v1",
        "WEIR_SERVICE_AGENT_MODEL_SMALL_TOKEN": TOKEN,
    }


def repository():
    """A small repository with one commit, which is told."""
    if shutil.which("git") is None:
        raise Failed("git is not installed: the analysis needs a repository to read")
    CODE.mkdir()
    (CODE / "greet.py").write_text(
        textwrap.dedent(
            '''\
            WORDS = {"en": "Hello", "fr": "Bonjour"}


            def greet(name, language="en"):
                if not name:
                    return greet("you", language)
                if language not in WORDS:
                    return name
                return f"{WORDS[language]}, {name}!"


            def greet_all(names):
                return [greet(name) for name in names]
            '''
        )
    )
    (CODE / "README.md").write_text("# Hello\n")
    own = ("-c", "user.name=Octo Cat", "-c", "user.email=octo@example.com", "-c", "commit.gpgsign=false")
    # Nobody's own settings: neither hooks nor templates.
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*arguments):
        done = subprocess.run(["git", *own, *arguments], cwd=CODE, env=env, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"git {arguments[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "Say hello")):
        git(*command)
    return git("rev-parse", "HEAD")


def explain(identity, *more):
    run = subprocess.run(
        [BIN / "weir", "explain", identity, "--fleet", DATA, *more],
        env={name: value for name, value in os.environ.items() if not name.startswith("WEIR_")},
        capture_output=True,
        text=True,
    )
    return run.stdout


def chain(identity):
    """The events that came of the webhook so far, it included, one after the other."""
    told = explain(identity, "--json")
    trees = json.loads(told)["chain"]["trees"] if told else []
    events = []
    while trees:
        events.append(trees[0])
        trees = trees[0]["follows"]
    return events


def figures(identity):
    """What the analysis has found, in a few words."""
    report = json.loads(explain(identity, "--json"))["results"][0]["result"]
    totals, worst = report["totals"], report["most_complex_functions"][0]
    return (
        f": {totals['lines']} lines of {', '.join(report['languages'])}, {totals['functions']} functions; "
        f"{worst['name']} is the most complex ({worst['complexity']})"
    )


def follow(identity, began):
    """Tells each step when it is done, and gives the events."""
    told = 0
    while time.monotonic() - began < WITHIN:
        events = chain(identity)
        for event, what in list(zip(events, STEPS))[told:]:
            if event["state"] == "dead":
                raise Failed(f"the review ended at {event['service']}:\n{explain(event['id'])}")
            if event["state"] is None:
                break
            if event["service"] == "analysis":
                what += figures(event["id"])
            say("", f"{time.monotonic() - began:5.1f} s  {event['service']:9} {what}")
            told += 1
        if told == len(STEPS):
            return events
        time.sleep(0.1)
    raise Failed(f"the review was not done within {WITHIN} s:\n{explain(identity)}")


def account(events, provider):
    """The calls that were made for these events as the provider has seen them, each of them once; and their trace."""
    traces, ids = {event["trace_id"] for event in events}, {event["id"] for event in events}
    if len(traces) != 1:
        raise Failed(f"the five events are not in one trace: {traces}")
    calls = json.loads(get(f"{provider}/_sim/calls?{query(limit=10_000)}"))
    # A model's answer may serve many events, so its call names none; nothing else here asks a model.
    calls = [call for call in calls if call["event_id"] in ids or call["api"] == "openai"]
    apis = [call["api"] for call in calls]
    if apis != ["github", "openai", "github", "slack"] or any(call["answer"] != "accepted" for call in calls):
        raise Failed(f"the provider saw other calls than one of each: {json.dumps(calls, indent=1)}")
    return traces.pop(), calls


def quote(text):
    for line in text.splitlines():
        for part in textwrap.wrap(line, 96) or [""]:
            say("", f"  | {part}".rstrip())


def show(fleet, provider, secret):
    """Sends the webhook, waits for the message, and shows what came of it."""
    payload = json.loads(PULL_REQUEST.read_bytes())
    head = payload["pull_request"]["head"]
    head["repo"]["clone_url"], head["sha"] = str(CODE), repository()
    name, number = payload["repository"]["full_name"], payload["number"]
    say("review", f"{name} #{number}, “{payload['pull_request']['title']}”: a real GitHub payload, in which only")
    say("", "the place of its code and its commit are ours. Everything after the webhook is made by the rules in")
    say("", f"{RULES.relative_to(ROOT)}; the model is simulated and answers a set text")
    delivery = str(uuid.uuid4())
    identity, began = f"github:{delivery}", time.monotonic()
    status = webhook(fleet["ingest_url"], secret, "pull_request", delivery, json.dumps(payload).encode())
    if status != 202:
        raise Failed(f"the webhook was answered {status}, expected 202")
    say("", f"{time.monotonic() - began:5.1f} s  webhook   is signed, and accepted: 202")
    events = follow(identity, began)
    trace, calls = account(events, provider)

    say("calls", "that the provider saw, each of them once:")
    for call in calls:
        say("", f"  {call['method']:4} {call['path']}  {call['status']}")
    comments = json.loads(get(f"{provider}/repos/{name}/issues/{number}/comments", TOKEN))
    say("comment", f"under {name} #{number}:")
    # Its last line is a mark that nobody sees at GitHub, by which a worker finds out whether it has written it.
    quote(comments[-1]["body"].split("\n\n<!-- weir:")[0])
    channel = query(channel="C0REVIEWS")
    messages = json.loads(get(f"{provider}/api/conversations.history?{channel}", TOKEN))["messages"]
    say("message", "in the Slack channel C0REVIEWS:")
    quote(messages[0]["text"])
    weir = os.path.relpath(BIN / "weir")
    print(f"\n$ {weir} explain {identity}\n\n{explain(identity)}")
    return identity, trace
