import { setTimeout as pause } from "node:timers/promises";
import { CairnError } from "../../../src/base/errors.js";
import { CairnClient } from "../../../src/client/client.js";
import type { LockHandle } from "../../../src/client/locks/lock.js";
import type { ConnectionOptions } from "../../../src/client/security/connection.js";
import { op } from "../../../src/client/txn/steps.js";
import type { Random } from "../../support/random.js";

const TIMEOUT_MS = 5_000;
const LOCK = "torture";
const TTL_MS = 3_000;
/** Longest time for which a holder keeps the lock, in ms: some keep it for longer than its lease lives without a keep-alive. */
const HOLD_MS = 4_500;
/** Share of the locks that are left to expire. */
const LEFT = 0.2;

/** Key that only a holder writes, with its token as the value. */
export const FENCED_KEY = "fenced";

/** The lock as all holders of this process see it. */
export class SharedLock {
  readonly #held = new Set<LockHandle>();
  #token = 0;
  readonly counts = { acquired: 0, lost: 0, fencedWrites: 0, refusedWrites: 0 };

  /** @throws Error when another one is certain to hold the lock, or had a later token */
  acquired(lock: LockHandle): void {
    for (const other of this.#held) {
      if (other.isHeld && lock.isHeld) throw new Error(`token ${other.token} is held, and token ${lock.token}, too`);
      if (!other.isHeld) this.#held.delete(other);
    }
    if (lock.isHeld && lock.token <= this.#token) throw new Error(`token ${lock.token} came after ${this.#token}`);
    this.#token = Math.max(this.#token, lock.token);
    this.#held.add(lock);
    this.counts.acquired++;
  }

  gone(lock: LockHandle): void {
    this.#held.delete(lock);
  }
}

/** A client that takes a lock, writes under its protection, and gives it up or leaves it to expire, without end. */
export class TortureHolder {
  #client: CairnClient;
  readonly #stop = new AbortController();
  /** Rejects when the lock does not hold what it promises. */
  readonly done: Promise<void>;

  constructor(
    private readonly endpoints: readonly string[],
    private readonly random: Random,
    private readonly shared: SharedLock,
    private readonly connection: ConnectionOptions = {},
  ) {
    this.#client = this.#newClient();
    this.done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.done;
    await this.#client.close();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const lock = await this.#client.lock(LOCK, { ttlMs: TTL_MS, signal });
        this.shared.acquired(lock);
        await this.#hold(lock);
        await this.#giveUp(lock);
      } catch (error) {
        if (!isExpected(error)) throw error;
        await pause(this.random.whole(10, 100));
      }
    }
  }

  /** Writes under the lock for a while. The lease must live as long as the handle says so. */
  async #hold(lock: LockHandle): Promise<void> {
    const end = performance.now() + this.random.whole(0, HOLD_MS);
    while (performance.now() < end && lock.isHeld && !this.#stop.signal.aborted) {
      await this.#writeFenced(lock);
      const found = await this.#client.get(lock.key);
      // Read while the lock was held: it must have been there.
      if (lock.isHeld && found?.createVersion !== lock.token) {
        throw new Error(
          `the lock's key ${lock.key} has create version ${found?.createVersion}, and ${lock.token} is held`,
        );
      }
      await pause(this.random.whole(10, 300));
    }
    if (!lock.isHeld) this.shared.counts.lost++;
  }

  async #writeFenced(lock: LockHandle): Promise<void> {
    const { succeeded } = await this.#client
      .txn()
      .when(lock.fence)
      .then(op.put(FENCED_KEY, `${lock.token}`))
      .commit();
    if (succeeded) this.shared.counts.fencedWrites++;
    else if (lock.isHeld) throw new Error(`token ${lock.token} is held, and a write that it protects was refused`);
    else this.shared.counts.refusedWrites++;
  }

  async #giveUp(lock: LockHandle): Promise<void> {
    this.shared.gone(lock);
    if (this.random.fraction() >= LEFT) {
      await lock.release();
      return;
    }
    // As a process does that dies: nothing keeps the lease any more, and nobody revokes it.
    await this.#client.close();
    for (;;) {
      try {
        this.#client = this.#newClient();
        return;
      } catch (error) {
        // The certificate has been replaced already, and its key comes next.
        if (!`${error}`.includes("is not the key of")) throw error;
        await pause(10);
      }
    }
  }

  #newClient(): CairnClient {
    return new CairnClient({ ...this.connection, endpoints: this.endpoints, timeoutMs: TIMEOUT_MS });
  }
}

/** Errors that any client must be ready for while nodes die. */
function isExpected(error: unknown): boolean {
  if (!(error instanceof CairnError)) return false;
  const passing = ["TIMEOUT", "CANCELLED", "UNREACHABLE", "NOT_LEADER", "STOPPED", "BUSY", "OUTCOME_UNKNOWN"];
  return [...passing, "LEASE_NOT_FOUND"].includes(error.code);
}
