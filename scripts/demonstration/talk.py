"""What the demo says, to people and over HTTP."""

import hashlib
import hmac
import json
import urllib.error
import urllib.parse
import urllib.request

# Straight to loopback, whatever proxy the environment names.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def say(what, text, end="\n"):
    print(f"{what:10} {text}", end=end, flush=True)


def get(url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with OPENER.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode()


def post(url, fields):
    headers = {"Content-Type": "application/json"}
    with OPENER.open(urllib.request.Request(url, json.dumps(fields).encode(), headers), timeout=10) as answer:
        return answer.status


def webhook(ingest, secret, kind, delivery, body):
    """Sends one signed webhook of GitHub and gives the status."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": kind,
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    request = urllib.request.Request(f"{ingest}/webhooks/github", body, headers)
    try:
        with OPENER.open(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def query(**fields):
    return urllib.parse.urlencode(fields)
