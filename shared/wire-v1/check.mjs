#!/usr/bin/env node
// Checks Node's @msgpack/msgpack against the golden vectors: what `read` below does, a client in any language can do.
//
// Prints one line per vector that differs and a summary; exits 1 if any differs. The library may be installed
// anywhere: NODE_PATH=<folder>/node_modules node check.mjs
//
// Valid vectors are compared in full. Of the invalid ones those in BLIND are left out: this library does not tell
// them from valid ones.

import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { isDeepStrictEqual } from "node:util";
import * as zlib from "node:zlib";

const { decode, encode } = createRequire(import.meta.url)("@msgpack/msgpack");

const MAX_BYTES = 32 * 1024 * 1024;
const MAX_DEPTH = 64;
const MAX_EXTRA = 64 * 1024;
const MAX_UNKNOWN = 1024;
const OCTETS = "application/octet-stream";
const BLIND = /^(duplicate-.*|json-duplicate.*|key-not-text-(number|bad-utf8)|json-v-float|v-float|time-float|priority-float|type-bad-utf8)$/;

const text = (most) => (value) =>
  typeof value === "string" && value.length > 0 && Buffer.byteLength(value) <= most && !/[\x00-\x1f\x7f-\x9f]/.test(value);
const matches = (pattern) => (value) => typeof value === "string" && pattern.test(value);
const whole = (least, most) => (value) => Number.isInteger(value) && value >= least && value <= most;
const FITS = {
  type: text(128),
  id: matches(/^[!-~]{1,256}$/),
  source: text(64),
  time: whole(0, Number.MAX_SAFE_INTEGER),
  priority: whole(1, 10),
  key: text(256),
  tenant: matches(/^[A-Za-z0-9_-]{1,64}$/),
  content_type: text(128),
};

function depth(value) {
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depth));
}

function refuse(why) {
  throw new Error(why);
}

/** The event in a payload, in the neutral form of the .expected.json files. */
function read(payload) {
  if (payload.length > MAX_BYTES) refuse("too large");
  const isJson = [0x7b, 0x20, 0x0a, 0x0d, 0x09].includes(payload[0]);
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const fields = isJson ? JSON.parse(utf8.decode(payload)) : decode(payload);
  if (fields === null || typeof fields !== "object" || Array.isArray(fields)) refuse("no map");
  const { v, data: plain, data_base64: base64, ...rest } = fields;
  if (v !== 1) refuse(`v is ${v}`);
  if (!isJson && depth(fields) > MAX_DEPTH) refuse("too deep");

  const event = { priority: 5 };
  for (const [name, fits] of Object.entries(FITS)) {
    const value = rest[name] ?? undefined;
    delete rest[name];
    if (value === undefined) continue;
    if (!fits(value)) refuse(`${name} does not fit`);
    event[name] = value;
  }
  if (event.type === undefined) refuse("type is missing");

  let data = plain ?? undefined;
  if (isJson && (base64 ?? undefined) !== undefined) {
    if (data !== undefined) refuse("data and data_base64");
    if (typeof base64 !== "string") refuse("data_base64 does not fit");
    data = Buffer.from(base64, "base64");
    // Node skips what is no base64: only what comes back the same was standard base64.
    if (data.toString("base64") !== base64) refuse("data_base64 does not fit");
  } else if (!isJson && base64 !== undefined) {
    rest.data_base64 = base64;
  }
  if (data instanceof Uint8Array) {
    event.data_base64 = Buffer.from(data).toString("base64");
    event.content_type ??= OCTETS;
  } else {
    const isJsonType = /(^application\/|\+)json$/i.test((event.content_type ?? "").split(";")[0].trim());
    if (event.content_type !== undefined && !(isJson && data !== undefined && isJsonType)) {
      refuse("content_type of data that is no bytes");
    }
    delete event.content_type;
    if (data !== undefined) event.data = data;
  }

  const unknown = Object.entries(rest);
  if (isJson && unknown.some(([, value]) => depth(value) >= MAX_DEPTH)) refuse("too deep");
  const size = unknown.reduce((sum, [name, value]) => sum + encode(name).length + encode(value, { maxDepth: 128 }).length, 0);
  if (size > MAX_EXTRA || unknown.length > MAX_UNKNOWN) refuse("unknown fields too large");
  if (unknown.length > 0) event.extra = rest;
  return event;
}

function plain(payload, encoding) {
  if (encoding === "zstd") return zlib.zstdDecompressSync(payload, { maxOutputLength: MAX_BYTES });
  return encoding ? refuse(`content encoding ${encoding}`) : payload;
}

const folder = (name) => new URL(name, import.meta.url);
const json = (url) => JSON.parse(readFileSync(url, "utf8"));
const hasZstd = typeof zlib.zstdDecompressSync === "function";
const wrong = [];
let checked = 0;
let skipped = 0;

const files = new Set(readdirSync(folder("valid/")));
for (const file of [...files].filter((name) => name.endsWith(".expected.json")).sort()) {
  const name = file.slice(0, -".expected.json".length);
  const payloadFile = files.has(`${name}.json`) ? `${name}.json` : `${name}.msgpack`;
  const { canonical, content_encoding: encoding, event: expected } = json(folder(`valid/${file}`));
  if (encoding === "zstd" && !hasZstd) {
    skipped += 1;
    continue;
  }
  checked += 1;
  const { data_msgpack_base64: raw } = expected;
  if (raw !== undefined) {
    delete expected.data_msgpack_base64;
    expected.data = decode(Buffer.from(raw, "base64"));
  }
  try {
    const payload = plain(readFileSync(folder(`valid/${payloadFile}`)), encoding);
    const event = read(payload);
    if (!isDeepStrictEqual(event, expected)) wrong.push(`${payloadFile}: read as ${JSON.stringify(event).slice(0, 300)}`);
    if (canonical && !Buffer.from(encode(decode(payload))).equals(payload)) wrong.push(`${payloadFile}: written in other bytes`);
  } catch (why) {
    wrong.push(`${payloadFile}: refused: ${why.message}`);
  }
}

for (const [name, { kind, content_encoding: encoding }] of Object.entries(json(folder("invalid/reasons.json")))) {
  // Libraries of zstd differ in what they bear: windows, bytes after the frame.
  if (BLIND.test(name) || kind === "compression" || (encoding === "zstd" && !hasZstd)) {
    skipped += 1;
    continue;
  }
  checked += 1;
  try {
    const event = read(plain(readFileSync(folder(`invalid/${name}.bin`)), encoding));
    wrong.push(`${name}.bin: taken (${kind}): ${JSON.stringify(event).slice(0, 300)}`);
  } catch {
    // Refused, as it should be.
  }
}

for (const line of wrong) console.log(line);
console.log(`${checked} vectors checked, ${skipped} skipped, ${wrong.length} wrong`);
process.exitCode = wrong.length > 0 ? 1 : 0;
