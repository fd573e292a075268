/** Width of a slot of time, in milliseconds. A lease is due up to this much late, never early. */
const SLOT_MS = 100;

/** A lease whose time is measured. */
interface TimedLease {
  /** Its number of keep-alives when its time began. */
  keepAlives: number;
  /** First slot in which its time is over. */
  due: number;
  /** The list that holds its id; "none" after it was taken. */
  list: Set<number> | "none";
}

/** A lease whose time is over, and its number of keep-alives when that time began. */
export interface DueLease {
  readonly id: number;
  readonly keepAlives: number;
}

/**
 * Measures the times of all leases, for the leader. A keep-alive is one lookup: the lease stays in
 * the list of its earlier slot, and moves on when that slot comes.
 */
export class LeaseTimes {
  readonly #leases = new Map<number, TimedLease>();
  /** Ids by slot. */
  readonly #slots = new Map<number, Set<number>>();
  /** Lists of leases to look at, in order. */
  readonly #queue: Set<number>[] = [];
  /** Walks through the first list of the queue. */
  #walk: Iterator<number> | undefined;
  /** Last slot that was queued. */
  #slot: number;

  /** `now`: milliseconds of a clock that never goes back, as in all calls. */
  constructor(now: number) {
    this.#slot = Math.floor(now / SLOT_MS);
  }

  get size(): number {
    return this.#leases.size;
  }

  has(id: number): boolean {
    return this.#leases.has(id);
  }

  /** Whether leases wait to be looked at. */
  get hasQueue(): boolean {
    return this.#queue.length > 0;
  }

  /** Gives a lease its full time, from `now` on. Its time to live is always the same. */
  begin(id: number, ttlMs: number, keepAlives: number, now: number): void {
    const due = Math.ceil((now + ttlMs) / SLOT_MS);
    const lease = this.#leases.get(id);
    if (lease === undefined) {
      this.#leases.set(id, this.#file(id, { keepAlives, due, list: "none" }));
      return;
    }
    lease.keepAlives = keepAlives;
    lease.due = due;
    if (lease.list === "none") this.#file(id, lease);
  }

  forget(id: number): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    this.#leases.delete(id);
    if (lease.list !== "none") lease.list.delete(id);
  }

  /** Has a lease that was taken looked at again, after those that wait already. */
  putBack(id: number): void {
    const lease = this.#leases.get(id);
    if (lease?.list !== "none") return;
    lease.list = new Set([id]);
    this.#queue.push(lease.list);
  }

  /** Returns the milliseconds that a lease has left; undefined when it is not known here. */
  remainingMs(id: number, now: number): number | undefined {
    const lease = this.#leases.get(id);
    return lease && Math.max(0, lease.due * SLOT_MS - now);
  }

  /**
   * Takes out up to `most` leases whose time is over, and looks at up to `lookedMost` to find them.
   * The caller then begins each anew, forgets it, or puts it back.
   */
  takeDue(now: number, most: number, lookedMost: number): DueLease[] {
    this.#advance(Math.floor(now / SLOT_MS));
    const due: DueLease[] = [];
    for (let looked = 0; looked < lookedMost && due.length < most; looked++) {
      const id = this.#next();
      if (id === undefined) break;
      const lease = this.#leases.get(id)!;
      lease.list = "none";
      if (lease.due > this.#slot) this.#file(id, lease);
      else due.push({ id, keepAlives: lease.keepAlives });
    }
    return due;
  }

  /** Takes the next id out of the queue. */
  #next(): number | undefined {
    for (;;) {
      const [first] = this.#queue;
      if (first === undefined) return undefined;
      this.#walk ??= first.values();
      const step = this.#walk.next();
      if (step.done !== true) {
        first.delete(step.value);
        return step.value;
      }
      this.#queue.shift();
      this.#walk = undefined;
    }
  }

  #advance(slot: number): void {
    if (this.#slots.size === 0) this.#slot = Math.max(this.#slot, slot);
    while (this.#slot < slot) {
      const list = this.#slots.get(++this.#slot);
      if (list === undefined) continue;
      this.#slots.delete(this.#slot);
      this.#queue.push(list);
    }
  }

  /** Puts a lease into the list of the slot in which it is due. */
  #file(id: number, lease: TimedLease): TimedLease {
    const slot = Math.max(lease.due, this.#slot + 1);
    let list = this.#slots.get(slot);
    if (list === undefined) {
      list = new Set();
      this.#slots.set(slot, list);
    }
    list.add(id);
    lease.list = list;
    return lease;
  }
}
