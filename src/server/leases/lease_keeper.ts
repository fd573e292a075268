import type { LeaseRecord } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { encodeCommand } from "../../machine/kv/command.js";
import type { Clock } from "../../system/clock.js";
import type { KeyValueNode } from "../kv/key_value_node.js";
import { type DueLease, LeaseTimes } from "./lease_times.js";

/** The part of a node that the keeper of its leases uses. */
export type LeaseNode = Pick<KeyValueNode, "propose" | "machine" | "raft">;

/**
 * Decides, at the leader, which leases have expired. The decision is an entry that names the number
 * of keep-alives on which it was made, so neither a late entry nor a wrong clock of an earlier
 * leader ends a lease that was kept alive since.
 *
 * Begins when the node leads and has applied an entry of its own term, and gives every lease its
 * full time then. Followers keep nothing. Reads leases in slices, and has one entry under way at a
 * time, bounded in leases and keys: neither a new leader nor the end of many leases holds others
 * up.
 */
export class LeaseKeeper {
  /** Present while this node leads. */
  #tenure: Tenure | undefined;
  #callOff: (() => void) | undefined;
  #isStopped = false;

  constructor(
    private readonly node: LeaseNode,
    private readonly clock: Clock,
  ) {}

  /** Starts to look at the leases from time to time. */
  start(): void {
    this.#schedule(limits.leaseLookMs);
  }

  stop(): void {
    this.#isStopped = true;
    this.#tenure = undefined;
    this.#callOff?.();
  }

  /**
   * Returns the milliseconds that a lease has left; all of its time while this leader has not begun
   * to measure it.
   */
  remainingMs({ id, ttlMs }: { readonly id: number; readonly ttlMs: number }): number {
    return Math.min(ttlMs, this.#tenure?.times.remainingMs(id, this.clock.now()) ?? ttlMs);
  }

  /** Notes a grant that this leader has applied, so that its time begins now. */
  granted(id: number): void {
    const tenure = this.#present();
    // The answer to a retry may name a lease that is known already, or has ended.
    if (tenure === undefined || tenure.times.has(id)) return;
    const lease = this.node.machine.lease(id);
    if (lease !== undefined) tenure.times.begin(id, lease.ttlMs, lease.keepAlives, this.clock.now());
  }

  /** Notes keep-alives that this leader has applied. */
  kept(leases: readonly LeaseRecord[]): void {
    const tenure = this.#present();
    if (tenure === undefined) return;
    const now = this.clock.now();
    for (const { leaseId, ttlMs, keepAlives } of leases) {
      tenure.times.begin(Number(leaseId), ttlMs, Number(keepAlives), now);
    }
  }

  /** Notes that this leader has applied the end of a lease. */
  ended(id: number): void {
    this.#tenure?.times.forget(id);
  }

  #schedule(ms: number): void {
    if (this.#isStopped) return;
    this.#callOff?.();
    this.#callOff = this.clock.after(ms, () => this.#look(), true);
  }

  #look(): void {
    let isBusy = false;
    try {
      const tenure = this.#present();
      if (tenure !== undefined) isBusy = this.#lookIn(tenure);
    } catch (error) {
      // The state is closed, or damaged: the node says so, and ends.
      if (!(error instanceof CairnError)) throw error;
    }
    this.#schedule(isBusy ? limits.leasePauseMs : limits.leaseLookMs);
  }

  /** Returns the tenure of the present term; undefined while this node may not decide. */
  #present(): Tenure | undefined {
    const { raft, machine } = this.node;
    const mayDecide = !this.#isStopped && raft.role === "leader" && raft.log.termAt(machine.appliedIndex) === raft.term;
    if (!mayDecide) this.#tenure = undefined;
    else if (this.#tenure?.term !== raft.term) this.#tenure = new Tenure(raft.term, this.clock.now());
    return this.#tenure;
  }

  /** Does one slice of the work; returns whether more is to be done soon. */
  #lookIn(tenure: Tenure): boolean {
    const { times } = tenure;
    const hasMore = this.#readNew(tenure);
    if (!tenure.isExpiring) {
      const due = this.#takeDue(times);
      if (due.length > 0) void this.#expire(tenure, due);
    }
    return hasMore || (!tenure.isExpiring && times.hasQueue);
  }

  /**
   * Begins the time of leases that this tenure does not know: at first all of them, later those
   * whose grant nobody has noted. Returns whether there are more.
   */
  #readNew(tenure: Tenure): boolean {
    const { machine } = this.node;
    if (machine.leaseCount === 0) return false;
    const leases = machine.leases(tenure.readThrough, limits.leaseSlice);
    const now = this.clock.now();
    for (const { id, ttlMs, keepAlives } of leases) {
      tenure.readThrough = id;
      if (!tenure.times.has(id)) tenure.times.begin(id, ttlMs, keepAlives, now);
    }
    return leases.length === limits.leaseSlice;
  }

  /** Takes leases whose time is over, as many as one entry may end. */
  #takeDue(times: LeaseTimes): DueLease[] {
    const now = this.clock.now();
    const due: DueLease[] = [];
    let keys = 0;
    for (const { id, keepAlives } of times.takeDue(now, limits.expiryLeases, LOOKED_MOST)) {
      const lease = this.node.machine.lease(id);
      if (lease === undefined) times.forget(id);
      // Somebody has kept it alive, at an unknown time.
      else if (lease.keepAlives !== keepAlives) times.begin(id, lease.ttlMs, lease.keepAlives, now);
      else if (due.length > 0 && keys + lease.keys > limits.expiryKeys) times.putBack(id);
      else {
        due.push({ id, keepAlives });
        keys += lease.keys;
      }
    }
    return due.sort((one, other) => one.id - other.id);
  }

  async #expire(tenure: Tenure, due: readonly DueLease[]): Promise<void> {
    tenure.isExpiring = true;
    const leases = due.map(({ id, keepAlives }) => ({ leaseId: BigInt(id), keepAlives: BigInt(keepAlives) }));
    let pause: number = limits.leaseLookMs;
    try {
      const data = encodeCommand({ operation: { case: "leaseExpire", value: { leases } } });
      const { result } = await this.node.propose(data);
      for (const { leaseId } of result.leases) tenure.times.forget(Number(leaseId));
      pause = limits.leasePauseMs;
    } catch (error) {
      // Too much to do, a full disk, or another leader: looked at again, if this node still leads.
      if (!(error instanceof CairnError)) throw error;
    } finally {
      tenure.isExpiring = false;
    }
    for (const { id } of due) tenure.times.putBack(id);
    if (this.#tenure === tenure && tenure.times.hasQueue) this.#schedule(pause);
  }
}

/** Leases that were kept alive and that one slice files anew. */
const LOOKED_MOST = 10_000;

/** A leader's measurement of the leases, in one term. */
class Tenure {
  readonly times: LeaseTimes;
  /** Leases up to this one were read from the state. */
  readThrough = 0;
  /** An entry that ends leases is under way. */
  isExpiring = false;

  constructor(
    readonly term: number,
    now: number,
  ) {
    this.times = new LeaseTimes(now);
  }
}
