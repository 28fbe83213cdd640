// The processes of one measurement: a Redis of its own, the simulated provider, the workers.
// Each is ended by the handle it was started with, never by name.

import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const START_MS = 10_000;
const END_MS = 5_000;
/** A port found free may be taken by another before Redis binds it. */
const PORT_ATTEMPTS = 3;

const running = new Set();

function started(child) {
  running.add(child);
  child.once('exit', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

/** Ends one process: asks, waits, and kills it when it does not go. */
export async function end(child) {
  if (!running.has(child)) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const killing = setTimeout(() => child.kill('SIGKILL'), END_MS);
  await gone;
  clearTimeout(killing);
}

/** Kills all that were started and still run, for the way out; what is awaited is their end. */
export function killAll() {
  const all = [...running];
  const gone = Promise.all(all.map((child) => once(child, 'exit')));
  for (const child of all) child.kill('SIGKILL');
  return gone;
}

/** The value of `promise`, or an error when `child` ends or the time is over before it. */
async function within(child, what, promise) {
  const stop = new AbortController();
  const { signal } = stop;
  const ended = once(child, 'exit', { signal }).then(([code, by]) => {
    throw new Error(`${what} ended with ${by ?? code}`);
  });
  const late = sleep(START_MS, undefined, { signal }).then(() => {
    throw new Error(`${what} was not ready within ${START_MS / 1e3} s`);
  });
  const others = [ended, late];
  others.forEach((other) => other.catch(() => {}));
  try {
    return await Promise.race([promise, ...others]);
  } finally {
    stop.abort();
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Resolves when something listens on `port`; gives up silently when `child` is gone. */
async function listens(child, port) {
  while (running.has(child)) {
    const socket = connect(port, '127.0.0.1');
    const open = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'close').then(() => false)])
      .catch(() => false);
    socket.destroy();
    if (open) return;
    await sleep(10);
  }
}

/** Starts a Redis that keeps nothing, on a free loopback port, with its folder in `folder`. */
export async function startRedis(folder) {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    const options = { port, bind: '127.0.0.1', save: '', appendonly: 'no', dir: folder, loglevel: 'warning' };
    const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const child = started(spawn('redis-server', args, { stdio: ['ignore', 'ignore', 'inherit'] }));
    try {
      await within(child, 'redis-server', listens(child, port));
      return { child, port };
    } catch (error) {
      await end(child);
      if (attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

/** Starts the simulated provider and waits for its address. */
export async function startProvider(program, args) {
  const child = started(spawn(program, ['provider', ...args], { stdio: ['ignore', 'pipe', 'inherit'] }));
  const lines = createInterface({ input: child.stdout });
  const [line] = await within(child, `${program} provider`, once(lines, 'line'));
  return { child, url: JSON.parse(line).url };
}

/** Starts one worker process that is connected and takes no job yet; `hear` gets what it tells from then on. */
export async function startWorker(settings, hear) {
  const child = started(fork(fileURLToPath(new URL('worker.mjs', import.meta.url)), [JSON.stringify(settings)]));
  await within(child, 'a worker', once(child, 'message'));
  child.on('message', hear);
  child.on('exit', (code, by) => code !== 0 && by !== 'SIGTERM' && hear({ fault: `a worker ended with ${by ?? code}` }));
  return child;
}
