"""What the makers' own libraries say of deliveries: JSON cases on standard input, JSON verdicts on standard output."""

import base64
import json
import sys
import time
from datetime import datetime, timezone

from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook
from stripe import WebhookSignature


def standard(secret, headers, body):
    Webhook(secret).verify(body, headers, json_parse=False)
    return True


def slack(secret, headers, body):
    return SignatureVerifier(secret).is_valid_request(body, headers)


def stripe(secret, headers, body):
    return WebhookSignature.verify_header(body, headers.get("stripe-signature"), secret, tolerance=300)


def sign_standard(secret, body):
    now = datetime.now(tz=timezone.utc)
    signature = Webhook(secret).sign("msg_maker", now, body.decode())
    return {
        "webhook-id": "msg_maker",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }


def sign_slack(secret, body):
    now = str(int(time.time()))
    signature = SignatureVerifier(secret).generate_signature(timestamp=now, body=body)
    return {"x-slack-request-timestamp": now, "x-slack-signature": signature}


def sign_stripe(secret, body):
    return {"stripe-signature": WebhookSignature.generate_signature_header(body.decode(), secret)}


MAKERS = {
    "standard": (standard, sign_standard),
    "slack": (slack, sign_slack),
    "stripe": (stripe, sign_stripe),
}


def judged(case):
    judge, sign = MAKERS[case["maker"]]
    body = base64.b64decode(case["body"])
    try:
        accepted, why = bool(judge(case["secret"], case["headers"], body)), ""
    except Exception as error:  # Each library refuses in its own way.
        accepted, why = False, f"{type(error).__name__}: {error}"
    return {"accepted": accepted, "why": why, "signed": sign(case["secret"], body)}


json.dump([judged(case) for case in json.load(sys.stdin)], sys.stdout)
