#!/usr/bin/env python3
"""Checks Python's msgpack against the golden vectors: what `read` below does, a client in any language can do.

Prints one line per vector that differs and a summary; exits 1 if any differs. Needs msgpack from PyPI; vectors in
zstd are checked where Python has it (compression.zstd of 3.14, or zstandard from PyPI).
"""

import base64
import json
import pathlib
import re
import sys

import msgpack

HERE = pathlib.Path(__file__).parent
MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 64
MAX_EXTRA = 64 * 1024
MAX_UNKNOWN = 1024
LONGEST = {"type": 128, "source": 64, "key": 256, "content_type": 128}
KNOWN = ("v", "type", "id", "source", "time", "priority", "key", "tenant", "content_type", "data")
OCTETS = "application/octet-stream"


class Refused(Exception):
    """The bytes are no event; the text says why."""


def decompressor():
    """A function that undoes zstd up to a little over MAX_BYTES, or None where Python has no zstd."""
    try:
        from compression import zstd

        return lambda data: zstd.ZstdDecompressor().decompress(data, max_length=MAX_BYTES + 1)
    except ImportError:
        pass
    try:
        import zstandard

        return lambda data: zstandard.ZstdDecompressor().stream_reader(data).read(MAX_BYTES + 1)
    except ImportError:
        return None


def text(value, most):
    return isinstance(value, str) and 1 <= len(value.encode()) <= most and not re.search(r"[\x00-\x1f\x7f-\x9f]", value)


def fits(name, value):
    """Whether a value may stand in a known field; nil was dropped before."""
    if name in ("time", "priority"):
        most, least = (10, 1) if name == "priority" else (2**64 - 1, 0)
        return type(value) is int and least <= value <= most
    if name == "id":
        return isinstance(value, str) and re.fullmatch(r"[!-~]{1,256}", value) is not None
    if name == "tenant":
        return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) is not None
    return text(value, LONGEST[name])


def once(pairs):
    """A map whose keys are distinct."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refused("a field stands twice")
    return fields


def depth(value):
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, (list, tuple)):
        return 1 + max(map(depth, value), default=0)
    return 0


def no_number(name):
    """Python reads NaN and Infinity, which are no JSON."""
    raise Refused(f"{name} is no JSON")


def unpack(payload):
    """One msgpack map or JSON object as a dict, and whether it was JSON."""
    if len(payload) > MAX_BYTES:
        raise Refused("too large")
    if payload[:1] in (b"{", b" ", b"\n", b"\r", b"\t"):
        return json.loads(payload.decode("utf-8"), object_pairs_hook=once, parse_constant=no_number), True
    # Duplicates are refused at every level here; Weir looks for them among the event's own fields only.
    return msgpack.unpackb(payload, strict_map_key=False, object_pairs_hook=once), False


def read(payload):
    """The event in a payload, in the neutral form of the .expected.json files."""
    try:
        fields, is_json = unpack(payload)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Refused(f"{type(error).__name__}: {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise Refused("no map with text as keys")
    version = fields.get("v")
    if type(version) is not int or version != 1:
        raise Refused(f"v is {version!r}")
    if not is_json and depth(fields) > MAX_DEPTH:
        raise Refused("too deep")

    event = {"priority": 5}
    for name in KNOWN[1:-1]:
        if fields.get(name) is not None:
            if not fits(name, fields[name]):
                raise Refused(f"{name} does not fit")
            event[name] = fields[name]
    if "type" not in event:
        raise Refused("type is missing")

    data = fields.get("data")
    known = KNOWN
    if is_json:
        known = (*KNOWN, "data_base64")
        if fields.get("data_base64") is not None:
            if data is not None:
                raise Refused("data and data_base64")
            try:
                data = base64.b64decode(fields["data_base64"].encode(), validate=True)
            except (AttributeError, ValueError) as error:
                raise Refused("data_base64 does not fit") from error
    if isinstance(data, bytes):
        event["data_base64"] = base64.b64encode(data).decode()
        event.setdefault("content_type", OCTETS)
    else:
        content_type = event.pop("content_type", None)
        json_type = content_type and re.search(r"(^application/|\+)json$", content_type.split(";")[0].strip().lower())
        if content_type and not (is_json and data is not None and json_type):
            raise Refused("content_type of data that is no bytes")
        if data is not None:
            event["data"] = data

    extra = {name: value for name, value in fields.items() if name not in known}
    if is_json and any(depth(value) >= MAX_DEPTH for value in extra.values()):
        raise Refused("too deep")
    size = sum(len(msgpack.packb(name)) + len(msgpack.packb(value)) for name, value in extra.items())
    if size > MAX_EXTRA or len(extra) > MAX_UNKNOWN:
        raise Refused("unknown fields too large")
    if extra:
        event["extra"] = extra
    return event


def decoded(payload, encoding, unzstd):
    if encoding == "zstd":
        try:
            payload = unzstd(payload)
        except Exception as error:  # each zstd library has exceptions of its own
            raise Refused(f"zstd: {error}") from error
    elif encoding:
        raise Refused(f"content encoding {encoding}")
    return payload


def main():
    unzstd = decompressor()
    checked, skipped, wrong = 0, 0, []
    for expected_file in sorted((HERE / "valid").glob("*.expected.json")):
        name = expected_file.name.removesuffix(".expected.json")
        about = json.loads(expected_file.read_text(encoding="utf-8"))
        if about.get("content_encoding") == "zstd" and not unzstd:
            skipped += 1
            continue
        checked += 1
        file = next(f for f in (HERE / "valid" / f"{name}.json", HERE / "valid" / f"{name}.msgpack") if f.exists())
        expected = about["event"]
        if "data_msgpack_base64" in expected:
            raw = base64.b64decode(expected.pop("data_msgpack_base64"))
            expected["data"] = msgpack.unpackb(raw, strict_map_key=False)
        try:
            payload = decoded(file.read_bytes(), about.get("content_encoding"), unzstd)
            event = read(payload)
        except Refused as why:
            wrong.append(f"{file.name}: refused: {why}")
            continue
        if event != expected:
            wrong.append(f"{file.name}: read as {event!r:.300}")
        if about["canonical"] and msgpack.packb(msgpack.unpackb(payload)) != payload:
            wrong.append(f"{file.name}: written in other bytes")

    reasons = json.loads((HERE / "invalid" / "reasons.json").read_text(encoding="utf-8"))
    for name, reason in reasons.items():
        encoding = reason.get("content_encoding")
        # Libraries of zstd differ in what they bear: windows, bytes after the frame.
        if reason["kind"] == "compression" or (encoding == "zstd" and not unzstd):
            skipped += 1
            continue
        checked += 1
        try:
            event = read(decoded((HERE / "invalid" / f"{name}.bin").read_bytes(), encoding, unzstd))
            wrong.append(f"{name}.bin: taken ({reason['kind']}): {event!r:.300}")
        except Refused:
            pass

    for line in wrong:
        print(line)
    print(f"{checked} vectors checked, {skipped} skipped, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
