// Measures every combination that was asked for and prints a table row for each.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { Queue } from 'bullmq';

import { limitOf } from './limit.mjs';
import { end, killAll, startProvider, startRedis, startWorker } from './processes.mjs';

const USAGE = `usage: run [OPTIONS]

Measures the limiter of BullMQ before the simulated provider that judges Weir, and prints a table.

  --limits LIMITS      what the provider allows, comma list [50 per second]
  --windows WAYS       how it counts, comma list, see weir-loadtest provider --help
                       [sliding,fixed,aligned,bucket]
  --workers COUNTS     worker processes, comma list [1,2,4,8]
  --limiter LIMIT      what BullMQ is told to keep [the provider's limit]
  --concurrency N      jobs at a time in each worker [20]
  --seconds N          length of each measurement, from its first call [60]
  --latency TIME       time the provider takes for an answer [0ms]
  --provider PROGRAM   weir-loadtest to use; without it cargo builds one
  --help

Needs node 20 or newer, npm and redis-server. All of it stays on loopback. Exit codes: 0 measured,
1 something failed, 64 wrong usage, 130 interrupted.`;

/** More jobs than this do not fit into the memory of a small machine. */
const MAX_JOBS = 2_000_000;
const JOBS_PER_BATCH = 1_000;
/** So long after the start the first call must have come. */
const FIRST_CALL_MS = 30_000;
/** What a combination may take beside its measuring; filling the queue is the longest part. */
const AROUND_MS = 300_000;
/** The count is read this long after the end, when the last whole period is sure to be over for the provider too. */
const MARGIN_MS = 25;
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

class Usage extends Error {}

function whole(name, text, most) {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > most) {
    throw new Usage(`--${name}: ${JSON.stringify(text)} is no whole number from 1 to ${most}`);
  }
  return number;
}

function settings() {
  const text = (value) => ({ type: 'string', default: value });
  const options = {
    limits: text('50 per second'),
    windows: text('sliding,fixed,aligned,bucket'),
    workers: text('1,2,4,8'),
    limiter: { type: 'string' },
    concurrency: text('20'),
    seconds: text('60'),
    latency: text('0ms'),
    provider: { type: 'string' },
    help: { type: 'boolean' },
  };
  try {
    const { values } = parseArgs({ options });
    const list = (name) => values[name].split(',').map((one) => one.trim());
    return {
      ...values,
      limits: list('limits').map(limitOf),
      windows: list('windows'),
      workers: list('workers').map((one) => whole('workers', one, 64)),
      limiter: values.limiter && limitOf(values.limiter),
      concurrency: whole('concurrency', values.concurrency, 1000),
      seconds: whole('seconds', values.seconds, 3600),
    };
  } catch (error) {
    throw new Usage(error.message);
  }
}

/** The simulated provider as it is in the sources now. */
function build() {
  const args = ['build', '--release', '--locked', '-p', 'loadtest', '--message-format', 'json-render-diagnostics'];
  const options = { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 64 << 20 };
  const built = execFileSync('cargo', args, options).trim().split('\n').map((line) => JSON.parse(line));
  return built.findLast(({ executable, target }) => executable && target.name === 'weir-loadtest').executable;
}

async function fill(queue, count) {
  const options = { removeOnComplete: true, removeOnFail: true };
  for (let left = count; left > 0; left -= JOBS_PER_BATCH) {
    const jobs = Array.from({ length: Math.min(left, JOBS_PER_BATCH) }, () => ({ name: 'call', data: {}, opts: options }));
    await queue.addBulk(jobs);
  }
}

/** More jobs than calls are possible in the time, so that the queue never runs dry. */
function jobsFor({ calls, ms }, seconds) {
  const count = calls * (Math.ceil((seconds * 1e3) / ms) + 2);
  if (count > MAX_JOBS) throw new Usage(`${calls} calls per ${ms} ms for ${seconds} s need ${count} jobs, more than ${MAX_JOBS}`);
  return count;
}

async function statsOf(provider) {
  return (await fetch(`${provider.url}/_sim/stats`, { signal: AbortSignal.timeout(5_000) })).json();
}

/** One combination; resolves to its row. `folder` is Redis's. */
async function measure({ workers, limit, way, folder, asked }) {
  const limiter = asked.limiter ?? limit;
  const watchdog = setTimeout(() => {
    console.error(`run: not done within ${asked.seconds + AROUND_MS / 1e3} s`);
    process.exit(1);
  }, asked.seconds * 1e3 + AROUND_MS);
  const redis = await startRedis(folder);
  const provider = await startProvider(asked.provider, [
    ...['--listen', '127.0.0.1:0', '--github', limit.text, '--github-window', way, '--latency', asked.latency],
    // Only the limit that BullMQ was told of is to be judged.
    ...['--github-concurrent', '60000'],
  ]);
  const queue = new Queue('compare', { connection: { host: '127.0.0.1', port: redis.port } });
  const children = [];
  const faults = [];
  queue.on('error', (error) => faults.push(error.message));
  try {
    await fill(queue, jobsFor(limiter, asked.seconds));
    let begun;
    const first = new Promise((resolve) => {
      begun = resolve;
    });
    const hear = (told) => (told.fault ? faults.push(told.fault) : begun(Date.now()));
    const worker = {
      redis: redis.port,
      queue: queue.name,
      provider: provider.url,
      limiter: { max: limiter.calls, duration: limiter.ms },
      concurrency: asked.concurrency,
    };
    for (let one = 0; one < workers; one += 1) children.push(await startWorker(worker, hear));
    // The first request of a process is slow, and the one that counts has to be in time.
    await statsOf(provider);
    for (const child of children) child.send('begin');
    const begin = await Promise.race([first, sleep(FIRST_CALL_MS, undefined, { ref: false })]);
    if (begin === undefined) throw new Error(`no call came; ${faults[0] ?? 'no error was told'}`);
    await sleep(begin + asked.seconds * 1e3 + MARGIN_MS - Date.now());
    const stats = await statsOf(provider);
    if (faults.length > 0) throw new Error(`${faults.length} faults, the first: ${faults[0]}`);
    if ((await queue.getWaitingCount()) === 0) throw new Error('the queue ran dry');
    const seen = stats.limits['github core'];
    if (seen.breaches !== stats.total.refused) throw new Error(`refused for another limit: ${JSON.stringify(stats)}`);
    const use = seen.capacity > 0 ? ((100 * seen.spent) / seen.capacity).toFixed(1) : 'untold';
    const told = limiter === limit ? '' : `, told ${limiter.text}`;
    return [
      ...[workers, limit.text + told, way, seen.allowed + seen.breaches, seen.breaches],
      ...[(seen.worst_saturated ? 'over ' : '') + seen.worst, use],
    ];
  } finally {
    await Promise.all(children.map(end));
    await queue.close();
    await Promise.all([end(provider.child), end(redis.child)]);
    clearTimeout(watchdog);
  }
}

const row = (cells) => console.log(`| ${cells.join(' | ')} |`);

async function main() {
  const asked = settings();
  if (asked.help) return console.log(USAGE);
  asked.provider ??= build();
  const folder = mkdtempSync(join(tmpdir(), 'weir-compare-'));
  process.on('exit', () => {
    killAll();
    rmSync(folder, { recursive: true, force: true });
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => killAll().then(() => process.exit(130)));
  }

  const { dependencies } = JSON.parse(readFileSync(new URL('package.json', import.meta.url)));
  const redis = /v=(\S+)/.exec(execFileSync('redis-server', ['--version'], { encoding: 'utf8' }))[1];
  console.error(`BullMQ ${dependencies.bullmq}, node ${process.versions.node}, Redis ${redis}; ${asked.seconds} s each`);
  row(['workers', 'limit', 'way of counting', 'calls', 'breaches', 'worst window', 'use %']);
  row(Array(7).fill('---'));
  for (const limit of asked.limits) {
    for (const way of asked.windows) {
      for (const workers of asked.workers) row(await measure({ workers, limit, way, folder, asked }));
    }
  }
}

try {
  await main();
} catch (error) {
  console.error(`run: ${error.message}`);
  process.exit(error instanceof Usage ? 64 : 1);
}
