import { randomBytes } from "node:crypto";
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { CairnError } from "../../../base/errors.js";
import type { CairnClient } from "../../../client.js";
import { print } from "../../output/output.js";
import { asStep } from "../../output/progress.js";
import { untilSignal } from "../../output/signals.js";
import type { BenchOptions } from "./bench.js";

/** Calls of one kind, as they are printed. */
interface Summary {
  readonly calls: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface BenchResult {
  readonly seconds: number;
  readonly writes?: Summary;
  readonly reads?: Summary;
  readonly errors: number;
  /** Number of failed calls by error code. */
  readonly errorCodes: Readonly<Record<string, number>>;
  readonly interrupted: boolean;
}

/** Keys that are made and removed at a time. */
const KEYS_AT_A_TIME = 512;

/** Pause of a caller after a failed call, in milliseconds: a cluster that is down is not beaten. */
const FAILED_PAUSE_MS = 100;

/**
 * Measures, prints a line each second and the result, and removes its keys.
 * @throws CairnError FAILED_PRECONDITION when there are keys under the prefix; the errors of calls,
 * when the cluster does not answer at the start or at the end
 */
export async function runBench(client: CairnClient, options: BenchOptions): Promise<BenchResult> {
  const { prefix } = options;
  await asStep("waiting for the cluster", options, () => claim(client, prefix));
  const stopping = new AbortController();
  void untilSignal().then(() => stopping.abort());
  try {
    if (options.readPercent > 0) await asStep("making the keys", options, () => fill(client, options));
    return await new BenchRun(client, options, stopping.signal).measure();
  } finally {
    await removeKeys(client, options);
  }
}

/** Makes sure that no key under the prefix is another's: also when two runs begin at one time. */
async function claim(client: CairnClient, prefix: string): Promise<void> {
  for await (const { key } of client.range({ prefix, limit: 1 })) throw inUse(prefix, String(key));
  const claimed = await client.put(claimKey(prefix), "cairn bench", { ifVersion: 0 });
  if (!claimed.swapped) throw inUse(prefix, claimKey(prefix));
}

function claimKey(prefix: string): string {
  return `${prefix}claim`;
}

function inUse(prefix: string, key: string): CairnError {
  const text = `there are keys under ${JSON.stringify(prefix)}, such as ${JSON.stringify(key)}, and cairn bench touches no others than its own`;
  const advice = "Give another --prefix, or remove them if they are left from a run that was killed";
  return new CairnError("FAILED_PRECONDITION", `${text}. ${advice}: cairn kv txn --then 'del-range ${prefix}'`);
}

/** One measurement. */
class BenchRun {
  readonly #writes = new Recorder();
  readonly #reads = new Recorder();
  readonly #errorCodes = new Map<string, number>();
  readonly #startedMs = performance.now();
  #isOver = false;

  constructor(
    private readonly client: CairnClient,
    private readonly options: BenchOptions,
    private readonly signal: AbortSignal,
  ) {}

  async measure(): Promise<BenchResult> {
    const { seconds, callers, json } = this.options;
    const ended = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, seconds * 1_000);
      this.signal.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });
    let second = 0;
    const ticker = setInterval(() => this.#tell(++second), 1_000);
    const calling = Promise.all(Array.from({ length: callers }, () => this.#call()));
    await ended;
    const elapsed = (performance.now() - this.#startedMs) / 1_000;
    clearInterval(ticker);
    if (second < seconds && !this.signal.aborted) this.#tell(seconds);
    this.#isOver = true;
    // Calls that were not answered in time count for nothing.
    const result = this.#result(elapsed);
    await calling;
    await print(`${json ? JSON.stringify({ type: "result", ...result }) : resultText(result)}\n`);
    return result;
  }

  async #call(): Promise<void> {
    const { readPercent, keys, valueBytes } = this.options;
    const value = randomBytes(valueBytes);
    while (!this.#isOver) {
      const key = keyOf(this.options, Math.floor(Math.random() * keys));
      const isRead = Math.random() * 100 < readPercent;
      const startedMs = performance.now();
      try {
        if (isRead) await this.client.get(key);
        else await this.client.put(key, value);
      } catch (error) {
        if (this.#isOver) return;
        const { code } = CairnError.from(error);
        this.#errorCodes.set(code, (this.#errorCodes.get(code) ?? 0) + 1);
        await new Promise((resolve) => setTimeout(resolve, FAILED_PAUSE_MS));
        continue;
      }
      if (!this.#isOver) (isRead ? this.#reads : this.#writes).record(performance.now() - startedMs);
    }
  }

  /** Tells the calls of the last second: a person on standard error, a program on its output. */
  #tell(second: number): void {
    const errors = this.#errors;
    const [writes, reads] = [this.#writes.sinceLast(), this.#reads.sinceLast()];
    if (this.options.json) {
      void print(`${JSON.stringify({ type: "second", second, writes, reads, errors })}\n`);
      return;
    }
    const failed = errors === 0 ? "" : `, ${errors} errors so far`;
    process.stderr.write(`${String(second).padStart(4)} s  ${writes} writes  ${reads} reads${failed}\n`);
  }

  get #errors(): number {
    return [...this.#errorCodes.values()].reduce((sum, count) => sum + count, 0);
  }

  #result(seconds: number): BenchResult {
    const [writes, reads] = [this.#writes.summary(seconds), this.#reads.summary(seconds)];
    return {
      seconds: Math.round(seconds * 1_000) / 1_000,
      ...(writes.calls > 0 && { writes }),
      ...(reads.calls > 0 && { reads }),
      errors: this.#errors,
      errorCodes: Object.fromEntries(this.#errorCodes),
      interrupted: this.signal.aborted,
    };
  }
}

/** Records how long calls take. */
class Recorder {
  /** In microseconds: a histogram takes whole numbers above 0. */
  readonly #histogram: RecordableHistogram = createHistogram();
  #told = 0;

  record(ms: number): void {
    this.#histogram.record(Math.max(1, Math.round(ms * 1_000)));
  }

  /** Returns the number of calls since this was last asked. */
  sinceLast(): number {
    const { count } = this.#histogram;
    const since = count - this.#told;
    this.#told = count;
    return since;
  }

  summary(seconds: number): Summary {
    const { count, max } = this.#histogram;
    const percentile = (at: number) => (count === 0 ? 0 : this.#histogram.percentile(at) / 1_000);
    return {
      calls: count,
      perSecond: Math.round(count / seconds),
      p50Ms: percentile(50),
      p99Ms: percentile(99),
      maxMs: count === 0 ? 0 : max / 1_000,
    };
  }
}

function keyOf({ prefix }: Pick<BenchOptions, "prefix">, at: number): string {
  return `${prefix}${at}`;
}

/** Does something with each key, with some of them at a time. */
async function forEachKey(options: BenchOptions, work: (key: string) => Promise<unknown>): Promise<void> {
  for (let low = 0; low < options.keys; low += KEYS_AT_A_TIME) {
    const size = Math.min(KEYS_AT_A_TIME, options.keys - low);
    await Promise.all(Array.from({ length: size }, (_, at) => work(keyOf(options, low + at))));
  }
}

function fill(client: CairnClient, options: BenchOptions): Promise<void> {
  return forEachKey(options, (key) => client.put(key, randomBytes(options.valueBytes)));
}

function removeKeys(client: CairnClient, options: BenchOptions): Promise<void> {
  return asStep("removing the keys", options, async () => {
    await forEachKey(options, (key) => client.delete(key));
    // Last: as long as it exists, no other run takes the prefix.
    await client.delete(claimKey(options.prefix));
  });
}

function resultText({ seconds, writes, reads, errors, errorCodes, interrupted }: BenchResult): string {
  const line = (name: string, summary: Summary | undefined) => {
    if (summary === undefined) return [];
    const { calls, perSecond, p50Ms, p99Ms, maxMs } = summary;
    const times = `p50 ${p50Ms.toFixed(2)} ms  p99 ${p99Ms.toFixed(2)} ms  max ${maxMs.toFixed(2)} ms`;
    return [`${name}  ${perSecond} a second  ${times}  (${calls} in ${seconds.toFixed(1)} s)`];
  };
  const codes = Object.entries(errorCodes).map(([code, count]) => `${count} ${code}`);
  return [
    ...line("writes", writes),
    ...line("reads ", reads),
    `errors  ${errors}${codes.length === 0 ? "" : `: ${codes.join(", ")}`}`,
    ...(interrupted ? ["interrupted before the time was over"] : []),
  ].join("\n");
}
