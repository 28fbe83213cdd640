// A limit as the simulated provider reads it, in the numbers that BullMQ wants.

const SPANS = { second: 1e3, s: 1e3, minute: 6e4, min: 6e4, m: 6e4, hour: 36e5, h: 36e5, day: 864e5, d: 864e5 };
const UNITS = { ms: 1, s: 1e3, m: 6e4, h: 36e5 };

/** Reads `50 per second` or `10 per 250ms` into calls and milliseconds; throws for anything else. */
export function limitOf(text) {
  const [, calls, span] = /^\s*(\d+)\s*(?:per\s+|\/)\s*(\w+)\s*$/.exec(text) ?? [];
  const [, count, unit] = /^(\d+)(ms|s|m|h)$/.exec(span ?? '') ?? [];
  const ms = SPANS[span] ?? Number(count) * UNITS[unit];
  if (!(calls >= 1 && calls <= 1e6) || !(ms >= 1 && ms <= 864e5)) {
    throw new Error(`${JSON.stringify(text)} is no limit; write for example '50 per second' or '10 per 250ms'`);
  }
  return { calls: Number(calls), ms, text: text.trim() };
}
