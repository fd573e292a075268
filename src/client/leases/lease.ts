import { CairnError, hasCode } from "../../base/errors.js";
import type { Clock } from "../../system/clock.js";
import type { CallOptions } from "../options.js";
import type { KeepingRecord, LeaseKeeping } from "./keeping.js";
import { certainMs } from "./timing.js";

/** Time for the cluster to take note of the end of a lease that its owner disposes of, in ms. */
const DISPOSAL_MS = 2_000;

/** The parts of a client that the handle of a lease uses. */
export interface LeaseOwner {
  readonly clock: Clock;
  keeping(): LeaseKeeping;
  revoke(leaseId: number, options: CallOptions): Promise<number>;
  /** The handle's lease has ended. */
  ended(lease: LeaseHandle): void;
}

/** A lease in the cluster, and the time until which it is certain to live. */
export interface OwnLease {
  readonly leaseId: number;
  readonly ttlMs: number;
  readonly maxBlockedMs: number;
  /** On the client's clock: when the call was sent that gave the lease its time. */
  readonly sentAt: number;
}

/**
 * A lease: the keys that are attached to it live as long as it does.
 *
 * The handle judges by this process's monotonic clock, from the moment at which the newest
 * confirmed call was sent, less a margin of a tenth of the time to live. So it never takes the
 * lease for alive longer than the cluster does, whatever became of the answers, as long as the
 * clock runs: a virtual machine that is suspended may stop its clock.
 */
export class LeaseHandle implements AsyncDisposable {
  /** The lease in the cluster. Ids grow, and are never used again. */
  readonly id: number;
  /** Time to live after a keep-alive, in ms. */
  readonly ttlMs: number;
  readonly #controller = new AbortController();
  readonly #waiting = new Set<{ readonly resolve: () => void; readonly reject: (error: unknown) => void }>();
  #sentAt: number;
  #record: KeepingRecord | undefined;
  #cancelTimer: (() => void) | undefined;
  #isRevoked = false;
  /** The call that revokes it. */
  #revoking: Promise<number> | undefined;

  /** @internal */
  constructor(
    private readonly owner: LeaseOwner,
    private readonly lease: OwnLease,
  ) {
    this.id = lease.leaseId;
    this.ttlMs = lease.ttlMs;
    this.#sentAt = lease.sentAt;
    this.#look();
  }

  /**
   * Aborts when the lease has ended, or may have ended because no keep-alive was confirmed in time.
   * Its reason is a CairnError. It does not abort when the lease is revoked by {@link revoke}.
   *
   * While the event loop is blocked, no listener runs. Reading this property looks at the clock, so
   * `lease.signal.aborted` tells the truth also right after that.
   */
  get signal(): AbortSignal {
    this.#look();
    return this.#controller.signal;
  }

  /** Whether the lease is certain to live now. */
  get isAlive(): boolean {
    return this.remainingMs > 0;
  }

  /** Time for which the lease is certain to live if no keep-alive succeeds any more, in ms. */
  get remainingMs(): number {
    this.#look();
    if (this.#isRevoked || this.#controller.signal.aborted) return 0;
    return Math.max(this.#certainUntil - this.owner.clock.now(), 0);
  }

  /**
   * Keeps the lease alive from now on, until it is revoked, lost, or the client is closed. Resolves
   * when the first keep-alive is confirmed. May be called more than once.
   * @throws CairnError LEASE_NOT_FOUND when the lease has ended or may have ended
   */
  async keepAlive(): Promise<void> {
    if (this.startKeeping().sentAt() !== undefined) return;
    // Keeps the process alive: neither the thread nor its stream does.
    const cancelTimer = this.owner.clock.after(this.ttlMs, () => {});
    try {
      await new Promise<void>((resolve, reject) => this.#waiting.add({ resolve, reject }));
    } finally {
      cancelTimer();
    }
  }

  /** Does what {@link keepAlive} does, and waits for nothing. @throws CairnError @internal */
  startKeeping(): KeepingRecord {
    this.throwIfLost();
    const { leaseId, ttlMs, maxBlockedMs } = this.lease;
    this.#record ??= this.owner.keeping().keep({ leaseId, ttlMs, maxBlockedMs }, () => this.#look());
    return this.#record;
  }

  /**
   * Ends the lease, and removes its keys at one place in the log. Resolves with their number; 0
   * when the lease had ended. If it fails, the lease ends when its time is over.
   */
  async revoke(options: CallOptions = {}): Promise<number> {
    this.#revoking ??= this.#revoke(options);
    try {
      return await this.#revoking;
    } catch (error) {
      // It may be tried again.
      this.#revoking = undefined;
      throw error;
    }
  }

  /** @throws CairnError LEASE_NOT_FOUND when the lease has ended or may have ended */
  throwIfLost(): void {
    if (this.#isRevoked) throw new CairnError("LEASE_NOT_FOUND", `lease ${this.id} was revoked`);
    if (this.signal.aborted) throw this.#controller.signal.reason;
  }

  /** {@link revoke}, which may fail: the lease then ends when its time is over. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.revoke({ timeoutMs: DISPOSAL_MS }).catch(() => {});
  }

  /** The client keeps it no longer. @internal */
  abandon(error: CairnError): void {
    this.#lose(error);
  }

  get #certainUntil(): number {
    return this.#sentAt + certainMs(this.ttlMs);
  }

  async #revoke(options: CallOptions): Promise<number> {
    this.#isRevoked = true;
    this.#end(new CairnError("LEASE_NOT_FOUND", `lease ${this.id} was revoked`));
    try {
      return await this.owner.revoke(this.id, options);
    } catch (error) {
      if (hasCode(error, "LEASE_NOT_FOUND")) return 0;
      throw error;
    }
  }

  /** Judges whether the lease lives, and sets the timer for the next judgement. */
  #look(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#isRevoked || this.#controller.signal.aborted) return;
    const newest = this.#record?.sentAt();
    if (newest !== undefined) this.#sentAt = Math.max(this.#sentAt, newest);
    const leftMs = this.#certainUntil - this.owner.clock.now();
    if (this.#record?.isGone() || leftMs <= 0) {
      this.#lose(this.#record?.isGone() ? hasEnded(this.lease) : mayHaveEnded(this.lease));
      return;
    }
    this.#cancelTimer = this.owner.clock.after(leftMs, () => this.#look(), true);
    if (newest === undefined) return;
    for (const { resolve } of this.#waiting) resolve();
    this.#waiting.clear();
  }

  #lose(error: CairnError): void {
    if (this.#isRevoked || this.#controller.signal.aborted) return;
    this.#end(error);
    this.#controller.abort(error);
  }

  #end(error: CairnError): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#record?.stop();
    for (const { reject } of this.#waiting) reject(error);
    this.#waiting.clear();
    this.owner.ended(this);
  }
}

function hasEnded({ leaseId }: OwnLease): CairnError {
  return new CairnError("LEASE_NOT_FOUND", `lease ${leaseId} has ended`);
}

function mayHaveEnded({ leaseId, ttlMs }: OwnLease): CairnError {
  const ms = Math.round(certainMs(ttlMs));
  const text = `lease ${leaseId} may have ended: no keep-alive that was sent in the last ${ms} ms is confirmed`;
  return new CairnError("LEASE_NOT_FOUND", text);
}
