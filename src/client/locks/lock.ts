import { hostname } from "node:os";
import { checkNumber, checkObject, checkSignal, TIMER_MS_MAX } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import { checkTtl } from "../leases/leases.js";
import { DEFAULT_TTL_MS } from "../leases/timing.js";
import type { CallOptions } from "../options.js";
import type { Condition } from "../txn/conditions.js";
import type { KeyValue, Value } from "../values.js";
import { joinedSignal } from "./joined_signal.js";
import { type QueueClient, type QueuePlace, queuePrefix, reachHead } from "./place.js";

/** Options of a lock, and of a candidacy. */
export interface QueueOptions extends CallOptions {
  /**
   * Time to live of the lease behind it, in ms: 1,000 to a week. After a crash of its holder, the
   * next one follows when this time is over. Choose it above the time in which the cluster elects a
   * leader, which is 2 s with the default options. Default 10,000.
   */
  readonly ttlMs?: number | undefined;
  /** See {@link KeepOptions.maxBlockedMs}. */
  readonly maxBlockedMs?: number | undefined;
  /**
   * Longest time to wait for others, in ms; 0: fail at once when another one is first. Default:
   * no limit. `timeoutMs` bounds each call to the cluster, as it does elsewhere.
   */
  readonly waitMs?: number | undefined;
}

export interface AcquireOptions extends QueueOptions {
  /** Value of the lock's key, for people who look at it. Default: host name and process id. */
  readonly value?: Value | undefined;
}

/** The parts of {@link LockHandle} and {@link LeaderHandle} that are the same. */
export abstract class HeadOfQueue implements AsyncDisposable {
  /** @internal */
  constructor(
    readonly name: string,
    /** @internal */
    protected readonly place: QueuePlace,
  ) {}

  /** The key in the cluster that shows that this is held. */
  get key(): string {
    return this.place.key;
  }

  /**
   * The fencing token: index of the log at which the key was created. Each later holder has a
   * higher one. Pass it along with each write to another system, and let that refuse a token below
   * one that it has seen.
   */
  get token(): number {
    return this.place.token;
  }

  /**
   * The condition that this is still held, for transactions: a write of this cluster that has it
   * takes effect only before the next holder's turn.
   *
   * ```ts
   * await client.txn().when(lock.fence).then(op.put("report", text)).commit();
   * ```
   */
  get fence(): Condition {
    return this.place.fence;
  }

  /**
   * Aborts when it is lost, or may be lost because the cluster did not confirm in time that it is
   * kept: stop the work then. Its reason is a CairnError. It does not abort when it is given up.
   *
   * While the event loop is blocked, no listener runs. Reading this property looks at the clock, so
   * `lock.signal.aborted` tells the truth also right after that.
   */
  get signal(): AbortSignal {
    return this.place.lease.signal;
  }

  /**
   * Whether it is certain to be held now. By the time a write arrives elsewhere that may have
   * changed: use {@link token} or {@link fence} where it matters.
   */
  get isHeld(): boolean {
    return this.place.lease.isAlive;
  }

  /** Time for which it is certain to be held if the cluster is not reached any more, in ms. */
  get remainingMs(): number {
    return this.place.lease.remainingMs;
  }

  /** @throws CairnError LEASE_NOT_FOUND when it is lost, may be lost, or was given up */
  throwIfLost(): void {
    this.place.lease.throwIfLost();
  }

  /** Gives it up; if the cluster cannot be reached, it ends when its time is over. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.place.withdraw();
  }
}

/**
 * A lock that this process holds: {@link CairnClient.lock}. Release it, or dispose of it with
 * `await using` (TypeScript 5.2; JavaScript from Node 24).
 */
export class LockHandle extends HeadOfQueue {
  /**
   * Gives the lock to the next in the queue. Resolves when that is durable on a majority, also when
   * the lock was lost before. If it fails, the lock ends when its time is over.
   */
  async release(options: CallOptions = {}): Promise<void> {
    await this.place.lease.revoke(options);
  }
}

/** Implements {@link CairnClient.lock}. */
export async function acquire(client: QueueClient, name: string, options: AcquireOptions): Promise<LockHandle> {
  const { value = `${hostname()} ${process.pid}` } = checkObject("options", options);
  return new LockHandle(name, await becomeFirst(client, queuePrefix("lock", name), value, options));
}

/** Joins the queue with this prefix, and waits until the place is the first. @throws CairnError */
export async function becomeFirst(
  client: QueueClient,
  prefix: string,
  value: Value,
  options: QueueOptions,
): Promise<QueuePlace> {
  const { waitMs = Number.POSITIVE_INFINITY, ttlMs = DEFAULT_TTL_MS, maxBlockedMs, timeoutMs } = options;
  checkNumber("waitMs", waitMs, 0, "a number from 0");
  checkTtl(ttlMs);
  const time = new AbortController();
  const deadline = client.clock.now() + waitMs;
  // Keeps the process alive, too: a lock that is waited for is work.
  const cancelTimer = client.clock.after(Math.min(waitMs, TIMER_MS_MAX), () => {
    if (waitMs <= TIMER_MS_MAX) time.abort(waitIsOver(waitMs));
  });
  const mayWait = (before: KeyValue) => {
    if (client.clock.now() >= deadline) throw waitIsOver(waitMs, before);
  };
  const { signal, end } = joinedSignal([checkSignal(options.signal), waitMs === 0 ? undefined : time.signal]);
  try {
    return await reachHead(client, prefix, value, { ttlMs, maxBlockedMs }, { timeoutMs }, signal, mayWait);
  } finally {
    cancelTimer();
    end();
  }
}

function waitIsOver(waitMs: number, before?: KeyValue): CairnError {
  const who =
    before === undefined ? "" : `; before it is ${before.key}, ${JSON.stringify(before.text().slice(0, 100))}`;
  return new CairnError("TIMEOUT", `its turn did not come in ${waitMs} ms${who}`);
}
