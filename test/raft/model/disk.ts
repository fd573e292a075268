import { assert } from "../../../src/base/assert.js";
import type { RaftOptions } from "../../../src/raft/raft.js";
import type { Ready } from "../../../src/raft/ready.js";
import {
  type Entry,
  type HardState,
  INITIAL_HARD_STATE,
  type IndexedMembership,
  LOG_START,
  type LogPosition,
  type SnapshotMeta,
} from "../../../src/raft/types.js";
import { decode, initialMembership } from "./cluster.js";

/** What a node's disk holds: log, hard state, newest snapshot, and the state with the index that it has applied. */
export class Disk {
  boundary: LogPosition = LOG_START;
  /** Consecutive entries above the boundary. */
  entries: Entry[] = [];
  hardState: HardState = INITIAL_HARD_STATE;
  /** The one that a power failure leaves. */
  synced: HardState = INITIAL_HARD_STATE;
  snapshot: SnapshotMeta | undefined;
  applied = 0;

  /** Of the cluster that the node was created with. */
  constructor(private readonly created: IndexedMembership = initialMembership) {}

  get last(): LogPosition {
    return this.entries.at(-1) ?? this.boundary;
  }

  entryAt(index: number): Entry | undefined {
    return this.entries[index - this.boundary.index - 1];
  }

  termAt(index: number): number | undefined {
    return index === this.boundary.index ? this.boundary.term : this.entryAt(index)?.term;
  }

  publish(snapshot: SnapshotMeta): void {
    if (snapshot.index > (this.snapshot?.index ?? 0)) this.snapshot = snapshot;
  }

  /** Makes the log start at an installed snapshot, keeping what is behind it when the log has its last entry, and the core any behind it. */
  startAt(snapshot: SnapshotMeta, hardState: HardState, coreHasMore = true): void {
    if (coreHasMore && this.termAt(snapshot.index) === snapshot.term) {
      this.trim(snapshot.index);
      return;
    }
    this.boundary = { index: snapshot.index, term: snapshot.term };
    this.entries = [];
    this.hardState = this.synced = hardState;
  }

  /** First half of a write that replaces entries. */
  truncateFor(first: number): void {
    this.entries.length = Math.min(this.entries.length, first - 1 - this.boundary.index);
  }

  write({ entries, hardState, mustSync }: Pick<Ready, "entries" | "hardState" | "mustSync">): void {
    for (const entry of entries) {
      assert(entry.index === this.last.index + 1, "the log on disk has no hole", { index: entry.index });
      this.entries.push(entry);
    }
    if (hardState !== undefined) this.hardState = hardState;
    if (mustSync) this.synced = this.hardState;
  }

  trim(index: number): void {
    if (index <= this.boundary.index) return;
    const term = this.termAt(index)!;
    this.entries.splice(0, index - this.boundary.index);
    this.boundary = { index, term };
  }

  /** What a start finds, mended as src/node/open/recovery.ts mends it. Without power the state on disk cannot be trusted. */
  recover(powerFailed: boolean): Pick<RaftOptions, "hardState" | "log" | "snapshot" | "memberships"> {
    if (powerFailed) [this.hardState, this.applied] = [this.synced, 0];
    this.#finishInstall();
    assert(this.applied <= this.last.index, "the log reaches to what is applied", { applied: this.applied });
    this.applied = Math.max(this.applied, this.snapshot?.index ?? 0);
    const { boundary, hardState, snapshot, applied, entries } = this;
    return {
      hardState,
      snapshot,
      memberships: this.memberships(),
      log: {
        boundary,
        ranges: entries.map(({ index, term }) => ({ firstIndex: index, term })),
        lastIndex: this.last.index,
        tail: entries.filter((entry) => entry.index > applied),
        commit: Math.max(Math.min(hardState.commit, this.last.index), applied),
        applied,
      },
    };
  }

  /** In force at the newest snapshot, and behind it. */
  memberships(): IndexedMembership[] {
    const covered = this.snapshot?.index ?? 0;
    const behind = this.entries.filter((entry) => entry.type === "configuration" && entry.index > covered);
    const base = this.snapshot?.membership ?? this.created;
    return [base, ...behind.map((entry) => ({ index: entry.index, members: decode(entry) }))];
  }

  #finishInstall(): void {
    const { snapshot, hardState } = this;
    if (snapshot === undefined || this.termAt(snapshot.index) === snapshot.term) return;
    const isOlder = hardState.term < snapshot.term;
    this.startAt(snapshot, {
      term: isOlder ? snapshot.term : hardState.term,
      vote: isOlder ? undefined : hardState.vote,
      commit: snapshot.index,
    });
  }
}
