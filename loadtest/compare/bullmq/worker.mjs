// One worker process: takes jobs as BullMQ's limiter allows and calls the provider for each.
// Told by its parent when to begin and to end; it ends by itself when the parent is gone.

import http from 'node:http';
import { Queue, Worker } from 'bullmq';

const { redis, queue: name, provider, limiter, concurrency } = JSON.parse(process.argv[2]);

/** What GitHub's documentation asks for where a refusal tells no time. */
const UNTOLD_WAIT_MS = 60_000;
const CALL_TIMEOUT_MS = 10_000;

const connection = { host: '127.0.0.1', port: redis };
const agent = new http.Agent({ keepAlive: true, maxSockets: concurrency });
const queue = new Queue(name, { connection });
let called = false;

function call(path) {
  return new Promise((resolve, reject) => {
    const headers = { authorization: 'Bearer compare', 'user-agent': 'weir-compare' };
    const request = http.get(`${provider}${path}`, { agent, headers, timeout: CALL_TIMEOUT_MS }, (response) => {
      response.resume();
      response.on('end', () => resolve(response));
      response.on('error', reject);
    });
    request.on('timeout', () => request.destroy(new Error('the provider did not answer')));
    request.on('error', reject);
  });
}

/** Milliseconds a refusal asks to wait. */
function waitOf(headers) {
  if (headers['retry-after']) return Number(headers['retry-after']) * 1e3;
  if (headers['x-ratelimit-remaining'] !== '0') return UNTOLD_WAIT_MS;
  return Math.max(1, Math.ceil(Number(headers['x-ratelimit-reset']) * 1e3 - Date.now()));
}

async function work() {
  if (!called) {
    called = true;
    process.send({ calls: true });
  }
  const { statusCode, headers } = await call('/user');
  if (statusCode === 429 || statusCode === 403) {
    await queue.rateLimit(waitOf(headers));
    throw Worker.RateLimitError();
  }
  if (statusCode !== 200) throw new Error(`the provider answered ${statusCode}`);
}

const fault = (error) => process.connected && process.send({ fault: error.message });

const worker = new Worker(name, work, { connection, concurrency, limiter, autorun: false });
worker.on('error', fault);
worker.on('failed', (_job, error) => fault(error));
queue.on('error', fault);

process.on('disconnect', () => process.exit(0));
process.on('message', (told) => {
  if (told === 'begin') worker.run().catch(fault);
});

await Promise.all([worker.waitUntilReady(), queue.waitUntilReady()]);
// Connections are opened before the first job, or its call would come late and the second window's too early.
await Promise.all(Array.from({ length: concurrency }, () => call('/_sim/stats')));
process.send({ ready: true });
