#!/usr/bin/env python3
"""Writes the golden vectors of wire format v1 into valid/ and invalid/ beside this file.

Needs msgpack from PyPI. The same script always writes the same bytes: run it again and `git diff` shows what changed.
"""

import base64
import json
import pathlib
import shutil
import struct

import msgpack

HERE = pathlib.Path(__file__).parent
MAX_DEPTH = 64
MAX_EXTRA = 64 * 1024
reasons = {}


def pack(value):
    return msgpack.packb(value)


def event(**fields):
    """An envelope's fields in the order in which Weir writes them."""
    return {"v": 1, **fields}


def raw_map(*pairs):
    """A map of at most 15 pairs whose keys and values are packed already."""
    return bytes([0x80 | len(pairs)]) + b"".join(key + value for key, value in pairs)


def with_raw(name, value):
    """A minimal event and one more field whose value is given in bytes."""
    return raw_map((pack("v"), pack(1)), (pack("type"), pack("t")), (pack(name), value))


def nested(levels):
    """Arrays in arrays, the innermost empty."""
    return b"\x91" * (levels - 1) + b"\x90"


def zstd(*blocks, window=None):
    """A zstd frame (RFC 8878) of raw blocks (bytes) and run-length blocks (byte, count)."""
    # One byte of descriptor, no flags; one byte of window: 2^(10 + n) bytes in the upper five bits.
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(window or 23) - 10 << 3])
    for index, block in enumerate(blocks):
        last = index == len(blocks) - 1
        if isinstance(block, bytes):
            kind, size, body = 0, len(block), block
        else:
            kind, size, body = 1, block[1], block[0]
        frame += (last | kind << 1 | size << 3).to_bytes(3, "little") + body
    return frame


def valid(name, payload, expected, *, canonical=False, encoding=None):
    """`payload` decodes to `expected`; `canonical` says that Weir writes the same event in the same bytes."""
    is_json = encoding is None and payload[:1] in (b"{", b" ", b"\n")
    (HERE / "valid" / f"{name}.{'json' if is_json else 'msgpack'}").write_bytes(payload)
    about = {"canonical": canonical}
    if encoding:
        about["content_encoding"] = encoding
    write_json(HERE / "valid" / f"{name}.expected.json", about | {"event": {"priority": 5} | expected})


def invalid(name, payload, kind, field=None, encoding=None):
    """`payload` is refused: the kind of error, and the field that it names if it names one."""
    (HERE / "invalid" / f"{name}.bin").write_bytes(payload)
    reasons[name] = {"kind": kind}
    if field:
        reasons[name]["field"] = field
    if encoding:
        reasons[name]["content_encoding"] = encoding


def write_json(path, value):
    line = json.dumps(value, ensure_ascii=False)
    text = line if len(line) > 10_000 and path.name != "reasons.json" else json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def b64(data):
    return base64.b64encode(data).decode()


def valid_msgpack():
    plain = event(id="e-1", type="t", priority=5)
    known = {"id": "e-1", "type": "t"}

    valid("minimal", pack(event(type="issues.opened")), {"type": "issues.opened"})
    valid("minimal-canonical", pack(plain), known, canonical=True)
    valid("keys-in-any-order", pack({"type": "t", "priority": 5, "id": "e-1", "v": 1}), known)
    everything = {
        "id": "github:72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "type": "issues.opened",
        "source": "github",
        "time": 1767225600123,
        "priority": 8,
        "key": "octo/repo",
        "tenant": "acme_EU-1",
    }
    body = b'{"action":"opened"}'
    valid(
        "all-fields",
        pack(event(**everything, content_type="application/json", data=body)),
        everything | {"content_type": "application/json", "data_base64": b64(body)},
        canonical=True,
    )
    valid("nil-is-missing", pack(event(type="t") | dict.fromkeys(["id", "source", "time", "priority", "key", "tenant", "content_type", "data"])), {"type": "t"})

    # Every width of a whole number, also those that are wider than need be or signed.
    widths = {
        "fixint": (b"\x07", 7),
        "uint8": (b"\xcc\xff", 255),
        "uint16": (b"\xcd\xff\xff", 65535),
        "uint32": (b"\xce\xff\xff\xff\xff", 2**32 - 1),
        "uint64": (b"\xcf" + struct.pack(">Q", 2**53 - 1), 2**53 - 1),
        "uint64-small": (b"\xcf" + struct.pack(">Q", 1), 1),
        "int8": (b"\xd0\x7f", 127),
        "int16": (b"\xd1\x7f\xff", 32767),
        "int32": (b"\xd2\x7f\xff\xff\xff", 2**31 - 1),
        "int64": (b"\xd3" + struct.pack(">q", 1767225600123), 1767225600123),
    }
    for name, (number, time) in widths.items():
        valid(f"time-{name}", with_raw("time", number), {"type": "t", "time": time})
    for priority in (1, 10):
        valid(f"priority-{priority}", pack(event(id="e-1", type="t", priority=priority)), known | {"priority": priority}, canonical=True)

    longest = {"id": "i" * 256, "type": "t" * 128, "source": "s" * 64, "time": 0, "key": "ä" * 128, "tenant": "T" * 64}
    valid("longest-values", pack(event(**longest) | {"content_type": "c" * 128, "data": b""}), longest | {"content_type": "c" * 128, "data_base64": ""})
    valid("not-ascii", pack(event(id="e-1", type="größe.geändert 💥", priority=5, key="日本/語")), known | {"type": "größe.geändert 💥", "key": "日本/語"}, canonical=True)

    # Data of every kind.
    values = {
        "str": "hello",
        "str-empty": "",
        "int": 42,
        "negative": -(2**31) - 1,
        "float": 1.5,
        "bool": False,
        "array-empty": [],
        "map-empty": {},
        "structured": {"a": [1, -1, 1.5, None, True, "x"], "b": {"c": {}}, "long": "y" * 300},
        "10kb": {"text": "abcdefghij" * 1024},
        "array16": list(range(20)),
        "map16": {f"k{n}": n for n in range(20)},
    }
    for name, value in values.items():
        valid(f"data-{name}", pack(event(id="e-1", type="t", priority=5, data=value)), known | {"data": value}, canonical=True)
    # Lengths in more bytes than they need: legal, kept as they came.
    wide = {
        "str8": (b"\xd9\x01x", "x"),
        "str16": (b"\xda\0\x01x", "x"),
        "str32": (b"\xdb\0\0\0\x01x", "x"),
        "array16": (b"\xdc\0\x01\x07", [7]),
        "array32": (b"\xdd\0\0\0\x01\x07", [7]),
        "map16": (b"\xde\0\x01\xa1x\x07", {"x": 7}),
        "map32": (b"\xdf\0\0\0\x01\xa1x\x07", {"x": 7}),
        "float32": (b"\xca\x3f\xc0\0\0", 1.5),
    }
    for name, (value, meaning) in wide.items():
        valid(f"data-short-{name}", with_raw("data", value), {"type": "t", "data": meaning})
    ext32 = b"\xc9\0\0\0\x01\x05x"
    valid("data-short-ext32", with_raw("data", ext32), {"type": "t", "data_msgpack_base64": b64(ext32)})
    octets = {"content_type": "application/octet-stream"}
    for name, size in {"bin8": 255, "bin16": 256, "bin32": 65536}.items():
        data = bytes(n % 251 for n in range(size))
        expected = known | octets | {"data_base64": b64(data)}
        valid(f"data-{name}", pack(event(id="e-1", type="t", priority=5, **octets, data=data)), expected, canonical=True)
    valid("data-bin-without-type", pack(event(id="e-1", type="t", data=b"\x00\xff")), known | octets | {"data_base64": "AP8="})
    # What JSON cannot say: compare the value with these bytes decoded.
    odd = {
        "ext": [msgpack.ExtType(n, b"x" * size) for n, size in enumerate((1, 2, 4, 8, 16, 3, 256))],
        "timestamp": msgpack.Timestamp(1767225600, 123_000_000),
        "nested-bin": {"bytes": b"\x00\x01"},
    }
    for name, value in odd.items():
        valid(f"data-{name}", pack(event(id="e-1", type="t", priority=5, data=value)), known | {"data_msgpack_base64": b64(pack(value))}, canonical=True)
    numbers_as_keys = b"\x81\x07\xa1x"
    valid("data-number-keys", with_raw("data", numbers_as_keys), {"type": "t", "data_msgpack_base64": b64(numbers_as_keys)})

    extra = {"trace": {"a": [1, {"b": None}]}, "x": -5, "ratio": 0.25, "": "the empty name"}
    valid("unknown-fields", pack(event(id="e-1", type="t", priority=5, data="d") | extra), known | {"data": "d", "extra": extra}, canonical=True)
    mixed = {"a": 1, "v": 1, "b": [2], "type": "t", "c": {}, "id": "e-1", "d": "x"}
    valid("unknown-fields-between", pack(mixed), known | {"extra": {"a": 1, "b": [2], "c": {}, "d": "x"}})
    many = {f"x{n:04}": n for n in range(20)}
    valid("envelope-map16", pack(event(id="e-1", type="t", priority=5) | many), known | {"extra": many}, canonical=True)
    for name, head in {"map16": b"\xde\x00\x02", "map32": b"\xdf\x00\x00\x00\x02"}.items():
        valid(f"envelope-{name}-short", head + pack("v") + pack(1) + pack("type") + pack("t"), {"type": "t"})
    most = {f"x{n:04}": None for n in range(1024)}
    valid("unknown-fields-1024", pack(event(id="e-1", type="t", priority=5) | most), known | {"extra": most}, canonical=True)

    # The envelope itself is the first level.
    deepest = nested(MAX_DEPTH - 1)
    value = json.loads("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    valid("depth-limit", with_raw("data", deepest), {"type": "t", "data": value})
    valid("depth-limit-unknown-field", with_raw("x", deepest), {"type": "t", "extra": {"x": value}})

    zeros = event(id="e-1", type="t", priority=5, **octets, data=bytes(10_000))
    head = pack(zeros)[:-10_000]
    valid("zstd", zstd(head, (b"\0", 9_000), (b"\0", 1_000)), known | octets | {"data_base64": b64(bytes(10_000))}, encoding="zstd")


def valid_json():
    everything = {
        "id": "e-1",
        "type": "issues.opened",
        "source": "github",
        "time": 1767225600123,
        "priority": 10,
        "key": "octo/repo",
        "tenant": "acme",
    }
    data = {"a": [1, -1, 1.5, None, True, "x"], "ä": {}}

    def text(value):
        return json.dumps(value, ensure_ascii=False).encode()

    valid("json-minimal", b'{"v":1,"type":"t"}', {"type": "t"})
    valid("json-all-fields", text(event(**everything, data=data, future={"deep": [1]})), everything | {"data": data, "extra": {"future": {"deep": [1]}}})
    valid("json-white-space", b' \n\t{ "v" : 1 ,\r\n "type" : "t" , "data" : [ 1 ] }\n', {"type": "t", "data": [1]})
    valid("json-escapes", rb'{"v":1,"\u0074ype":"\u0074\ud83d\udca5","data":"\n"}', {"type": "t💥", "data": "\n"})
    valid("json-nulls", b'{"v":1,"type":"t","id":null,"priority":null,"content_type":null,"data":null,"data_base64":null}', {"type": "t"})
    valid("json-bytes", b'{"v":1,"type":"t","data_base64":"AP8="}', {"type": "t", "content_type": "application/octet-stream", "data_base64": "AP8="})
    png = {"content_type": "image/png", "data_base64": "iVBORw=="}
    valid("json-bytes-with-type", text(event(type="t", **png)), {"type": "t"} | png)
    # Structured data may name a type of its own as long as that is JSON.
    valid("json-data-with-json-type", b'{"v":1,"type":"t","content_type":"application/vnd.x+json","data":{"a":1}}', {"type": "t", "data": {"a": 1}})


def broken_form():
    invalid("empty", b"", "empty")
    for name, payload in {
        "array": pack([1, "t"]),
        "number": b"\x01",
        "nil": b"\xc0",
        "text": b"hello",
        "json-array": b"[1]",
        "json-with-bom": b'\xef\xbb\xbf{"v":1,"type":"t"}',
        "gzip": b"\x1f\x8b\x08\x00",
        "zstd-without-header": zstd(pack(event(type="t"))),
    }.items():
        invalid(f"not-a-map-{name}", payload, "not_a_map")

    # Ends inside each kind of value, and between values.
    for name, payload in {
        "map16-head": b"\xde\x00",
        "map32-head": b"\xdf\x00\x00\x00",
        "before-key": b"\x82" + pack("v") + pack(1),
        "in-key": b"\x81\xa4typ",
        "before-value": b"\x81" + pack("v"),
        "uint8": with_raw("time", b"\xcc"),
        "uint16": with_raw("time", b"\xcd\x01"),
        "uint32": with_raw("time", b"\xce\x01\x02\x03"),
        "uint64": with_raw("time", b"\xcf" + bytes(7)),
        "int8": with_raw("time", b"\xd0"),
        "int16": with_raw("time", b"\xd1\x01"),
        "int32": with_raw("time", b"\xd2\x01\x02\x03"),
        "int64": with_raw("time", b"\xd3" + bytes(7)),
        "float32": with_raw("data", b"\xca" + bytes(3)),
        "float64": with_raw("data", b"\xcb" + bytes(7)),
        "fixstr": with_raw("data", b"\xa2a"),
        "str8": with_raw("data", b"\xd9\x02a"),
        "str8-head": with_raw("data", b"\xd9"),
        "str16": with_raw("data", b"\xda\x00\x02a"),
        "str32": with_raw("data", b"\xdb\xff\xff\xff\xffa"),
        "bin8": with_raw("data", b"\xc4\x02a"),
        "bin16": with_raw("data", b"\xc5\x00\x02a"),
        "bin32": with_raw("data", b"\xc6\xff\xff\xff\xffa"),
        "fixarray": with_raw("data", b"\x92\x01"),
        "array16": with_raw("data", b"\xdc\xff\xff\x01"),
        "array32-of-4-billion": with_raw("data", b"\xdd\xff\xff\xff\xff\x01"),
        "fixmap": with_raw("data", b"\x81\x01"),
        "map16": with_raw("data", b"\xde\xff\xff\x01\x02"),
        "map32-of-4-billion": with_raw("data", b"\xdf\xff\xff\xff\xff\x01\x02"),
        "envelope-of-4-billion": b"\xdf\xff\xff\xff\xff" + pack("v") + pack(1),
        "fixext1": with_raw("data", b"\xd4\x00"),
        "fixext16": with_raw("data", b"\xd8\x00" + bytes(15)),
        "ext8": with_raw("data", b"\xc7\x02\x00a"),
        "ext16": with_raw("data", b"\xc8\x00\x02\x00a"),
        "ext32": with_raw("data", b"\xc9\xff\xff\xff\xff\x00a"),
        "unknown-field": with_raw("x", b"\x92\x01"),
    }.items():
        invalid(f"truncated-{name}", payload, "truncated")

    for name, field in {"data": "data", "known-field": "time", "unknown-field": "x"}.items():
        invalid(f"never-used-byte-in-{name}", with_raw(field, b"\xc1"), "malformed")
    invalid("never-used-byte-nested", with_raw("data", b"\x91\xc1"), "malformed")
    for name, field in {"data": "data", "unknown-field": "x"}.items():
        invalid(f"too-deep-{name}", with_raw(field, nested(MAX_DEPTH)), "too_deep")
    invalid("too-deep-map", with_raw("data", b"\x81\xa1k" * (MAX_DEPTH - 1) + b"\x80"), "too_deep")
    invalid("too-deep-100000", with_raw("data", nested(100_000)), "too_deep")
    for name, tail in {"byte": b"\x00", "map": pack(event(type="t")), "newline": b"\n"}.items():
        invalid(f"trailing-{name}", pack(event(type="t")) + tail, "trailing")
    for name, key in {"number": b"\x01", "nil": b"\xc0", "bin": b"\xc4\x01v", "bad-utf8": b"\xa2\xc3\x28", "map": b"\x80"}.items():
        payload = raw_map((pack("v"), pack(1)), (pack("type"), pack("t")), (key, pack(1)))
        invalid(f"key-not-text-{name}", payload, "key_not_text")
    for name in ("v", "type", "data", "x"):
        twice = (pack(name), pack(1) if name == "v" else pack("t"))
        others = [(pack(n), pack(v)) for n, v in event(type="t").items() if n != name]
        invalid(f"duplicate-{name}", raw_map(*others, twice, twice), "duplicate", name)


def broken_fields():
    invalid("missing-v", pack({"type": "t"}), "missing", "v")
    invalid("missing-v-nil", pack({"v": None, "type": "t"}), "missing", "v")
    invalid("missing-everything", b"\x80", "missing", "v")
    invalid("missing-type", pack({"v": 1}), "missing", "type")
    invalid("missing-type-nil", pack({"v": 1, "type": None}), "missing", "type")
    for version in (0, 2, 2**64 - 1):
        invalid(f"version-{version}", pack({"v": version, "type": "t"}), "version", "v")
    invalid("version-2-with-another-shape", pack({"v": 2, "type": {"name": "t"}, "id": 7}), "version", "v")
    misfits = {
        "v": {"text": "1", "negative": -1, "float": 1.0},
        "type": {"empty": "", "129-bytes": "t" * 129, "control": "a\nb", "number": 1, "bin": b"t"},
        "id": {"empty": "", "257-bytes": "i" * 257, "space": "a b", "control": "a\r\nb", "not-ascii": "ä", "number": 7, "bin": b"e-1"},
        "source": {"empty": "", "65-bytes": "s" * 65, "control": "a\0", "array": ["github"]},
        "time": {"negative": -1, "float": 1767225600123.0, "text": "2026-01-01T00:00:00Z", "timestamp": msgpack.Timestamp(1767225600)},
        "priority": {"0": 0, "11": 11, "minus-1": -1, "261": 261, "text": "5", "float": 5.0, "bool": True},
        "key": {"empty": "", "257-bytes": "k" * 257, "control": "a\tb", "map": {}},
        "tenant": {"empty": "", "65-bytes": "T" * 65, "dot": "a.b", "star": "*", "not-ascii": "ä", "space": "a b"},
        "content_type": {"empty": "", "129-bytes": "c" * 129, "control": "a\nb"},
    }
    for field, values in misfits.items():
        for name, value in values.items():
            fields = event(type="t") | ({"data": b""} if field == "content_type" else {}) | {field: value}
            invalid(f"{field.replace('_', '-')}-{name}", pack(fields), "field", field)
    invalid("type-bad-utf8", raw_map((pack("v"), pack(1)), (pack("type"), b"\xa2\xc3\x28")), "field", "type")
    for name, value in {"structured": {"a": 1}, "str": "x", "nil": None}.items():
        invalid(f"content-type-of-{name}-data", pack(event(type="t", content_type="text/plain", data=value)), "field", "content_type")
    invalid("content-type-without-data", pack(event(type="t", content_type="text/plain")), "field", "content_type")
    invalid("unknown-fields-too-large", pack(event(type="t", x=bytes(MAX_EXTRA))), "extra_too_large")
    invalid("unknown-fields-1025", pack(event(type="t") | {f"x{n:04}": None for n in range(1025)}), "extra_too_large")


def broken_json():
    for name, payload in {
        "truncated": b'{"v":1,"type":"t"',
        "trailing": b'{"v":1,"type":"t"}{}',
        "trailing-comma": b'{"v":1,"type":"t",}',
        "single-quotes": b"{'v':1,'type':'t'}",
        "nan": b'{"v":1,"type":"t","data":NaN}',
        "bad-utf8": b'{"v":1,"type":"t","data":"\xc3\x28"}',
        "white-space-only": b" \n",
        "array-after-space": b" [1]",
    }.items():
        invalid(f"json-{name}", payload, "json")
    invalid("json-missing-v", b'{"type":"t"}', "missing", "v")
    invalid("json-missing-type", b'{"v":1}', "missing", "type")
    invalid("json-version-2", b'{"v":2,"type":"t"}', "version", "v")
    invalid("json-v-float", b'{"v":1.0,"type":"t"}', "field", "v")
    invalid("json-priority-text", b'{"v":1,"type":"t","priority":"5"}', "field", "priority")
    invalid("json-priority-11", b'{"v":1,"type":"t","priority":11}', "field", "priority")
    invalid("json-id-array", b'{"v":1,"type":"t","id":["a"]}', "field", "id")
    invalid("json-time-negative", b'{"v":1,"type":"t","time":-1}', "field", "time")
    invalid("json-duplicate", b'{"v":1,"type":"t","type":"t"}', "duplicate", "type")
    invalid("json-duplicate-escaped", rb'{"v":1,"type":"t","\u0074ype":"t"}', "duplicate", "type")
    invalid("json-data-twice", b'{"v":1,"type":"t","data":1,"data_base64":""}', "field", "data")
    invalid("json-base64-broken", b'{"v":1,"type":"t","data_base64":"AP8"}', "field", "data_base64")
    invalid("json-base64-url", b'{"v":1,"type":"t","data_base64":"-_8="}', "field", "data_base64")
    invalid("json-base64-number", b'{"v":1,"type":"t","data_base64":1}', "field", "data_base64")
    invalid("json-content-type-of-structured-data", b'{"v":1,"type":"t","content_type":"image/png","data":{}}', "field", "content_type")
    invalid("json-too-deep-unknown-field", b'{"v":1,"type":"t","x":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "too_deep")
    invalid("json-unknown-fields-too-large", b'{"v":1,"type":"t","x":"' + b"x" * MAX_EXTRA + b'"}', "extra_too_large")
    invalid("json-unknown-name-too-large", b'{"v":1,"type":"t","' + b"x" * MAX_EXTRA + b'":1}', "extra_too_large")
    grows = b"[" + b",".join([b"1.5"] * 12_000) + b"]"
    invalid("json-unknown-fields-too-large-in-msgpack", b'{"v":1,"type":"t","x":' + grows + b"}", "extra_too_large")


def broken_compression():
    plain = pack(event(type="t"))
    invalid("zstd-bomb-of-1-gib", zstd(*[(b"\0", 128 * 1024)] * 8192), "too_large", encoding="zstd")
    invalid("zstd-window-of-2-gib", zstd(plain, window=31), "compression", encoding="zstd")
    invalid("zstd-truncated", zstd(plain)[:-3], "compression", encoding="zstd")
    invalid("zstd-not-zstd", plain, "compression", encoding="zstd")
    invalid("zstd-rubbish-after", zstd(plain) + b"rubbish", "compression", encoding="zstd")
    invalid("zstd-of-nothing", zstd(b""), "empty", encoding="zstd")
    invalid("zstd-of-no-map", zstd(b"\x01"), "not_a_map", encoding="zstd")
    invalid("encoding-gzip", b"\x1f\x8b\x08\x00", "encoding", encoding="gzip")


def main():
    for folder in ("valid", "invalid"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    valid_msgpack()
    valid_json()
    broken_form()
    broken_fields()
    broken_json()
    broken_compression()
    write_json(HERE / "invalid" / "reasons.json", dict(sorted(reasons.items())))


if __name__ == "__main__":
    main()
