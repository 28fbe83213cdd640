#!/usr/bin/env python3
"""Publishes one event to Weir and prints where the server keeps it, as one JSON line.

usage: publish.py SERVICE TYPE [DATA]        DATA is JSON. The server is $WEIR_NATS_URL (nats://127.0.0.1:4222).
Needs nats-py and msgpack from PyPI.
"""

import asyncio
import json
import os
import secrets
import sys
import time
import uuid

import msgpack
import nats


async def quiet(_error):
    """Errors are raised where they happen; the client would print each of them as well."""


async def publish(service, kind, data):
    event = {
        "v": 1,
        "id": str(uuid.uuid4()),
        "type": kind,
        "source": "python-example",
        "time": time.time_ns() // 1_000_000,
    }
    if data is not None:
        event["data"] = data
    headers = {
        # The server drops a second message with the same id; send the same id again when an ack does not come.
        "Nats-Msg-Id": event["id"],
        # A client that is traced passes its own context on instead.
        "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
    }
    connection = await nats.connect(
        os.environ.get("WEIR_NATS_URL", "nats://127.0.0.1:4222").split(","),
        allow_reconnect=False,
        max_reconnect_attempts=1,
        reconnect_time_wait=0,
        error_cb=quiet,
    )
    try:
        jetstream = connection.jetstream()
        ack = await jetstream.publish(f"events.{service}", msgpack.packb(event), timeout=5, headers=headers)
    finally:
        await connection.close()
    print(json.dumps({"id": event["id"], "stream": ack.stream, "sequence": ack.seq, "duplicate": bool(ack.duplicate)}))


def main():
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 64
    try:
        data = json.loads(sys.argv[3]) if len(sys.argv) == 4 else None
    except ValueError as error:
        print(f"publish.py: DATA is no JSON: {error}", file=sys.stderr)
        return 64
    try:
        asyncio.run(publish(sys.argv[1], sys.argv[2], data))
    except (nats.errors.Error, OSError) as error:
        print(f"publish.py: not published to events.{sys.argv[1]}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
