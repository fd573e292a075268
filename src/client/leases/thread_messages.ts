import type { Clock } from "../../system/clock.js";
import type { ConnectionOptions } from "../security/connection.js";
import type { LeaseToKeep } from "./keeping.js";

// Messages between a client and its keeper thread, and the memory that they share. Times in shared
// memory are nanoseconds of the process's monotonic clock, which is the same in all threads.

/** The thread's start. */
export interface KeeperStart {
  readonly endpoints: readonly string[];
  readonly connection: Pick<ConnectionOptions, "tls" | "insecure">;
  /** The client sends a token: this one, until the thread is told another; undefined: none yet. */
  readonly token: { readonly first: string | undefined } | undefined;
  /** One number: when the client's event loop last ran. */
  readonly beat: SharedArrayBuffer;
}

export type ToKeeper =
  | {
      readonly type: "keep";
      readonly number: number;
      readonly lease: LeaseToKeep;
      /** {@link SharedRecord} */
      readonly record: SharedArrayBuffer;
    }
  | { readonly type: "drop"; readonly number: number }
  /** The token for streams that are opened from now on. */
  | { readonly type: "token"; readonly token: string }
  | "stop";

/** The record with this number has changed. */
export interface FromKeeper {
  readonly number: number;
}

/** Numbers in the memory of a record. */
const SENT_AT = 0;
const IS_GONE = 1;

/** The progress of keeping one lease alive: the thread writes it, the client reads it. */
export class SharedRecord {
  readonly #numbers: BigInt64Array;

  constructor(readonly memory = new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT)) {
    this.#numbers = new BigInt64Array(memory);
  }

  /** Returns the time of {@link processMs}; undefined: nothing was kept. */
  get sentAt(): number | undefined {
    const nanoseconds = Atomics.load(this.#numbers, SENT_AT);
    return nanoseconds === 0n ? undefined : Number(nanoseconds) / 1e6;
  }

  set sentAt(ms: number) {
    Atomics.store(this.#numbers, SENT_AT, BigInt(Math.floor(ms * 1e6)));
  }

  get isGone(): boolean {
    return Atomics.load(this.#numbers, IS_GONE) !== 0n;
  }

  setGone(): void {
    Atomics.store(this.#numbers, IS_GONE, 1n);
  }
}

/** The moment at which an event loop last ran: the client writes it, the thread reads it. */
export class SharedBeat {
  readonly #numbers: BigInt64Array;

  constructor(readonly memory = new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT)) {
    this.#numbers = new BigInt64Array(memory);
  }

  set(): void {
    Atomics.store(this.#numbers, 0, process.hrtime.bigint());
  }

  /** Returns how long ago that was, in ms. */
  get ageMs(): number {
    return Number(process.hrtime.bigint() - Atomics.load(this.#numbers, 0)) / 1e6;
  }
}

/** Returns the process's monotonic time in ms. */
export function processMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** The clock of the keeper thread; performance.now() begins at another moment in each thread. */
export const processClock: Clock = {
  now: processMs,
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  soon: (run) => void setImmediate(run),
};
