#!/usr/bin/env python3
"""Publishes one event that is too large for a message and prints where the server keeps it, as one JSON line.

usage: publish_large.py SERVICE TYPE FILE      FILE holds JSON. The server is $WEIR_NATS_URL (nats://127.0.0.1:4222).
Needs nats-py and msgpack from PyPI.
"""

import asyncio
import hashlib
import json
import os
import sys
import uuid

import msgpack
import nats


async def publish(service, kind, data):
    event = {"v": 1, "id": str(uuid.uuid4()), "type": kind, "content_type": "application/json", "data": data}
    connection = await nats.connect(os.environ.get("WEIR_NATS_URL", "nats://127.0.0.1:4222").split(","))
    try:
        jetstream = connection.jetstream()
        # The body first. Its name says whose it is; the last part must be new for every message.
        of = hashlib.sha256(event["id"].encode()).hexdigest()[:32]
        name = f"{service}/{of}/{uuid.uuid4().hex}"
        bodies = await jetstream.object_store("weir_bodies")
        await bodies.put(name, msgpack.packb(event))
        # Then the message, without a payload. Within ten minutes: bodies that nobody refers to are removed.
        headers = {"Nats-Msg-Id": event["id"], "Weir-Claim": name}
        ack = await jetstream.publish(f"events.{service}", b"", timeout=5, headers=headers)
    finally:
        await connection.close()
    print(json.dumps({"id": event["id"], "stream": ack.stream, "sequence": ack.seq, "duplicate": bool(ack.duplicate)}))


def main():
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 64
    with open(sys.argv[3], "rb") as file:
        data = file.read()
    try:
        asyncio.run(publish(sys.argv[1], sys.argv[2], data))
    except (nats.errors.Error, OSError) as error:
        print(f"publish_large.py: not published: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
