import { hostname } from "node:os";
import { checkFunction, checkObject, checkWholeNumber, invalid } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import type { LeaseHandle } from "../leases/lease.js";
import { checkTtl } from "../leases/leases.js";
import { DEFAULT_TTL_MS } from "../leases/timing.js";
import type { CallOptions } from "../options.js";
import { type Condition, compare } from "../txn/conditions.js";
import { op } from "../txn/steps.js";
import type { KeyValue } from "../values.js";
import { type QueueClient, queuePrefix } from "./place.js";

// Runs a job once in a fleet for each time of a schedule. A key of the job has the newest time that
// was claimed. Another one, attached to a lease, exists while the job runs. Both are set by one
// transaction, which only one process can win.

/**
 * The times of a job, the same in all processes. `everyMs`: the multiples of this many milliseconds
 * since 1970. `next`: returns the first time after the given one; undefined: there is none.
 */
export type Schedule = { readonly everyMs: number } | { readonly next: (after: Date) => Date | undefined };

/** One run of a job of {@link CairnClient.once}. */
export interface OnceRun {
  /** The time of the schedule. */
  readonly time: Date;
  /** Fencing token of this run: higher than that of each earlier run of the job. */
  readonly token: number;
  /** Aborts when the lease of the run is lost or may be lost: another run may begin. */
  readonly signal: AbortSignal;
  /** The condition that no other run has begun, for transactions. */
  readonly fence: Condition;
}

/** The outcome of one time of the schedule in this process. */
export type OnceEvent =
  /** The job has run here. */
  | { readonly type: "ran"; readonly time: Date; readonly token: number }
  /** The job has run here, and failed. */
  | { readonly type: "failed"; readonly time: Date; readonly token: number; readonly error: unknown }
  /** Another process has claimed this time, or an earlier run still lasts. */
  | { readonly type: "skipped"; readonly time: Date; readonly because: "claimed" | "running" }
  /** The cluster could not be asked: the job does not run here at this time. */
  | { readonly type: "unclaimed"; readonly time: Date; readonly error: CairnError };

export interface OnceOptions {
  /** As in {@link QueueOptions}: after the process of a run dies, no other begins for this long. */
  readonly ttlMs?: number | undefined;
  /** See {@link KeepOptions.maxBlockedMs}. */
  readonly maxBlockedMs?: number | undefined;
  /** Bounds each call to the cluster, in ms. Default: the client's `timeoutMs`. */
  readonly timeoutMs?: number | undefined;
  /** Receives the outcome of each time. Default: failures become warnings of the process. */
  readonly onEvent?: ((event: OnceEvent) => void) | undefined;
}

/** The parts of a client that run jobs. */
export interface OnceSource extends QueueClient {
  get(key: string, options: CallOptions): Promise<KeyValue | undefined>;
  /** Returns the time of the wall clock in ms. */
  unixMs(): number;
}

/** Longest time for which a timer is set, in ms: the wall clock may be changed meanwhile. */
const TIMER_MS = 60_000;

/** Time for the cluster to take note of the end of a run, in ms. */
const END_MS = 2_000;

/** A job of {@link CairnClient.once}. It keeps the process alive until it is stopped. */
export class OnceHandle implements AsyncDisposable {
  readonly #timeKey: string;
  readonly #runKey: string;
  readonly #next: (after: number) => number | undefined;
  readonly #times: { readonly ttlMs: number; readonly maxBlockedMs: number | undefined };
  readonly #tell: (event: OnceEvent) => void;
  #cancelTimer: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #isStopped = false;

  /** @internal */
  constructor(
    private readonly source: OnceSource,
    readonly name: string,
    schedule: Schedule,
    private readonly job: (run: OnceRun) => unknown,
    private readonly options: OnceOptions,
  ) {
    const { ttlMs = DEFAULT_TTL_MS, maxBlockedMs, onEvent } = checkObject("options", options);
    const prefix = queuePrefix("once", name);
    this.#timeKey = `${prefix}time`;
    this.#runKey = `${prefix}run`;
    this.#next = timesOf(schedule);
    this.#times = { ttlMs: checkTtl(ttlMs), maxBlockedMs };
    checkFunction("the job", job);
    this.#tell = onEvent === undefined ? (event) => warn(name, event) : checkFunction("onEvent", onEvent);
    this.#plan(source.unixMs());
  }

  /** Runs the job no more. Resolves when the run that has begun here, if any, has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelTimer?.();
    await this.#running;
  }

  /** {@link stop}, for `await using` (TypeScript 5.2; JavaScript from Node 24). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** Waits for the first time after this one. */
  #plan(after: number): void {
    if (this.#isStopped) return;
    const time = this.#next(after);
    if (time !== undefined) this.#wait(time);
  }

  #wait(time: number): void {
    const leftMs = time - this.source.unixMs();
    this.#cancelTimer = this.source.clock.after(Math.min(Math.max(leftMs, 0), TIMER_MS), () => {
      if (this.source.unixMs() < time) return this.#wait(time);
      this.#running = this.#due(new Date(time)).finally(() => {
        this.#running = undefined;
        // Times that have passed meanwhile were others' to run.
        this.#plan(Math.max(time, this.source.unixMs()));
      });
    });
  }

  async #due(time: Date): Promise<void> {
    let lease: LeaseHandle | undefined;
    try {
      const claimed = await this.#claimedTime();
      if (claimed.time >= time.getTime()) return this.#tell({ type: "skipped", time, because: "claimed" });
      lease = await this.source.grant({ ...this.#times, timeoutMs: this.options.timeoutMs });
      await lease.keepAlive();
      const { succeeded, version: token } = await this.#claim(time, claimed.version, lease);
      if (succeeded) return await this.#run(time, token, lease);
      const { time: newest } = await this.#claimedTime();
      this.#tell({ type: "skipped", time, because: newest >= time.getTime() ? "claimed" : "running" });
    } catch (error) {
      this.#tell({ type: "unclaimed", time, error: CairnError.from(error) });
    } finally {
      await lease?.revoke({ timeoutMs: END_MS }).catch(() => {});
    }
  }

  async #claimedTime(): Promise<{ readonly time: number; readonly version: number }> {
    const mark = await this.source.get(this.#timeKey, { timeoutMs: this.options.timeoutMs });
    if (mark === undefined) return { time: Number.NEGATIVE_INFINITY, version: 0 };
    return { time: Date.parse(mark.text()), version: mark.version };
  }

  #claim(time: Date, version: number, lease: LeaseHandle) {
    return this.source
      .txn()
      .when(compare(this.#timeKey).version("=", version), compare(this.#runKey).missing())
      .then(op.put(this.#timeKey, time.toISOString()), op.put(this.#runKey, `${hostname()} ${process.pid}`, { lease }))
      .commit({ timeoutMs: this.options.timeoutMs });
  }

  async #run(time: Date, token: number, lease: LeaseHandle): Promise<void> {
    const fence = compare(this.#runKey).createVersion("=", token);
    try {
      await this.job({ time, token, signal: lease.signal, fence });
    } catch (error) {
      return this.#tell({ type: "failed", time, token, error });
    }
    this.#tell({ type: "ran", time, token });
  }
}

/** @throws CairnError INVALID_ARGUMENT */
function timesOf(schedule: Schedule): (after: number) => number | undefined {
  const { everyMs, next } = checkObject("the schedule", schedule) as {
    readonly everyMs?: number;
    readonly next?: (after: Date) => Date | undefined;
  };
  if ((everyMs === undefined) === (next === undefined)) {
    throw new CairnError("INVALID_ARGUMENT", "a schedule has either everyMs or next");
  }
  if (everyMs !== undefined) {
    checkWholeNumber("everyMs", everyMs, 1);
    return (after) => (Math.floor(after / everyMs) + 1) * everyMs;
  }
  checkFunction("next", next!);
  return (after) => {
    const time = next!(new Date(after))?.getTime();
    if (time === undefined || time > after) return time;
    throw invalid("the result of next", "undefined, or a time after the given one", time);
  };
}

function warn(name: string, event: OnceEvent): void {
  if (event.type !== "failed" && event.type !== "unclaimed") return;
  const what = event.type === "failed" ? "has failed" : "could not be claimed";
  process.emitWarning(`the job ${JSON.stringify(name)} of ${event.time.toISOString()} ${what}: ${event.error}`);
}
