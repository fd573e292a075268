import { assert } from "../base/assert.js";
import { limits } from "../base/limits.js";
import { type TermRange, TermRanges } from "./term_ranges.js";
import { type Entry, entriesWithin, entryBytes, type LogPosition } from "./types.js";

/** The state of a log when a node starts. */
export interface LogStart {
  /** The position right before the first entry. */
  readonly boundary: LogPosition;
  /** Terms of the log, oldest first. */
  readonly ranges: readonly TermRange[];
  readonly lastIndex: number;
  /** The last entries of the log, up to lastIndex: at least those above `applied`. */
  readonly tail: readonly Entry[];
  readonly commit: number;
  readonly applied: number;
}

/** The limits that a log observes. */
export type LogLimits = { readonly [Name in "applyEntries" | "applyBytes" | "windowBytes"]: number };

/**
 * Tracks the log as the core sees it:
 *
 *     boundary < ... applied <= commit <= last
 *                    persisted (durable up to here) <= last
 *
 * It knows the term of every entry and of the boundary, but holds only a window of entries at the
 * end: those that are not yet durable or not yet applied, and some recent ones. The log on disk
 * holds the older ones.
 */
export class RaftLog {
  readonly #terms: TermRanges;
  /** Consecutive entries up to the last one. */
  #window: Entry[] = [];
  #windowBytes = 0;
  #commit: number;
  #applied: number;
  /** Last index handed out to be applied. */
  #applying: number;
  #persisted: number;
  /** Last index handed out to be made durable. */
  #persisting: number;

  constructor(
    start: LogStart,
    private readonly bounds: LogLimits = limits,
  ) {
    const firstRange = start.ranges[0]?.firstIndex ?? start.boundary.index + 1;
    assert(firstRange <= start.boundary.index + 1, "there is no hole between the boundary and the log (R9)", {
      boundary: start.boundary.index,
      firstIndex: firstRange,
    });
    this.#terms = new TermRanges(start.boundary);
    start.ranges.forEach((range, at) => {
      const end = start.ranges[at + 1]?.firstIndex ?? start.lastIndex + 1;
      this.#terms.extendTo(end - 1, range.term);
    });
    for (const entry of start.tail) {
      const follows = start.tail[0]!.index + this.#window.length;
      assert(entry.index === follows, "the tail's entries are consecutive", { index: entry.index, follows });
      this.#remember(entry);
    }
    this.#commit = start.commit;
    this.#applied = this.#applying = start.applied;
    this.#persisted = this.#persisting = start.lastIndex;
    assert(this.last.index === start.lastIndex, "the ranges reach to the last entry", {
      ranges: this.last.index,
      last: start.lastIndex,
    });
    assert((start.tail.at(-1)?.index ?? start.lastIndex) === start.lastIndex, "the tail reaches to the last entry", {
      tail: start.tail.at(-1)?.index,
      last: start.lastIndex,
    });
    assert(
      start.boundary.index <= start.applied && start.applied <= start.commit && start.commit <= start.lastIndex,
      "boundary <= applied <= commit <= last",
      { boundary: start.boundary.index, applied: start.applied, commit: start.commit, last: start.lastIndex },
    );
    this.#assertUnappliedInMemory();
  }

  /** The position right before the first entry. Its term stays known after trimming (R6). */
  get boundary(): LogPosition {
    return this.#terms.boundary;
  }

  /** Position of the last entry, or the boundary when the log is empty. */
  get last(): LogPosition {
    return this.#terms.last;
  }

  get commit(): number {
    return this.#commit;
  }

  /** Last index that the state machine has applied. */
  get applied(): number {
    return this.#applied;
  }

  /** Last index that is durable in this node's log. */
  get persisted(): number {
    return this.#persisted;
  }

  /** Returns the term of the entry at `index`, or of the boundary; undefined outside the log. */
  termAt(index: number): number | undefined {
    return this.#terms.termAt(index);
  }

  /** Returns the first index of the term that the entry at `index` has. */
  firstIndexOfTermAt(index: number): number {
    return this.#terms.firstIndexOfTermAt(index);
  }

  /** The terms of the log; the first range starts at the boundary. */
  get ranges(): readonly TermRange[] {
    return this.#terms.ranges;
  }

  /**
   * Returns the entries from `first` on that one message may hold: at least one, and no more than
   * `maxEntries` or `maxBytes`. Undefined when the first one is no longer in memory; then it is in
   * the log on disk, unless it is trimmed.
   */
  entriesFrom(first: number, maxEntries: number, maxBytes: number): Entry[] | undefined {
    const start = this.firstInMemory;
    if (first < start) return undefined;
    return entriesWithin(this.#window, first - start, maxEntries, maxBytes);
  }

  /**
   * Returns the highest index of the log, boundary included, whose term is at most `term`;
   * undefined when even the boundary's term is above it.
   */
  lastIndexOfTermAtMost(term: number): number | undefined {
    return this.#terms.lastIndexOfTermAtMost(term);
  }

  append(entry: Entry): void {
    this.#terms.append(entry.index, entry.term);
    this.#remember(entry);
  }

  /** Removes the entries above `index`, none of which may be committed (Raft section 5.3). */
  truncateAfter(index: number): void {
    assert(index >= this.#commit, "committed entries are never removed", { index, commit: this.#commit });
    const removed = this.last.index - index;
    if (removed <= 0) return;
    for (const entry of this.#window.splice(Math.max(0, this.#window.length - removed))) {
      this.#windowBytes -= entryBytes(entry);
    }
    this.#terms.truncateAfter(index);
    this.#persisted = Math.min(this.#persisted, index);
    this.#persisting = Math.min(this.#persisting, index);
  }

  commitTo(index: number): void {
    assert(index <= this.last.index, "only entries of the log are committed", { index, last: this.last.index });
    if (index > this.#commit) this.#commit = index;
  }

  /** Whether there are entries to make durable. */
  get hasUnpersisted(): boolean {
    return this.#persisting < this.last.index;
  }

  /** Takes the entries to make durable that were not handed out before. */
  takeUnpersisted(): Entry[] {
    const entries = this.#slice(this.#persisting + 1, this.last.index);
    this.#persisting = this.last.index;
    return entries;
  }

  /**
   * Records that the entries handed out up to `index` are durable. Entries that were replaced
   * meanwhile must be handed out again, and count only then. That holds even when an entry returned
   * with the same term, because writing its replacement removes it from disk for a moment.
   */
  persistedTo(index: number): void {
    this.#persisted = Math.max(this.#persisted, Math.min(index, this.#persisting));
    this.#evict();
  }

  /** Whether there are entries to apply: committed, and durable here. */
  get hasUnapplied(): boolean {
    return this.#applying < Math.min(this.#commit, this.#persisted);
  }

  /**
   * Takes the next entries to apply that were not handed out before, within the limits applyEntries
   * and applyBytes.
   */
  takeUnapplied(): Entry[] {
    const end = Math.min(this.#commit, this.#persisted, this.#applying + this.bounds.applyEntries);
    const committed = this.#slice(this.#applying + 1, end);
    const entries = entriesWithin(committed, 0, committed.length, this.bounds.applyBytes);
    this.#applying += entries.length;
    return entries;
  }

  /**
   * Records that the state machine has advanced from the snapshot of {@link restoreTo} to `index`.
   * The next entries that it needs must be in memory; see {@link firstInMemory}.
   */
  restored(index: number): void {
    this.appliedTo(index);
    this.#assertUnappliedInMemory();
  }

  appliedTo(index: number): void {
    assert(index >= this.#applied && index <= this.#commit, "applied moves up, to committed entries only", {
      index,
      applied: this.#applied,
      commit: this.#commit,
    });
    this.#applied = index;
    this.#applying = Math.max(this.#applying, index);
    this.#evict();
  }

  /** Discards the entries up to `index`, all of which a durable snapshot covers. */
  trimTo(index: number): void {
    assert(index <= this.#applied, "only applied entries are trimmed", { index, applied: this.#applied });
    if (index <= this.boundary.index) return;
    this.#terms.trimTo(index);
    this.#dropWindowBelow(index + 1);
  }

  /**
   * Restarts the log at a snapshot that is ahead of the commit index (R4): retains the later
   * entries when the log has the snapshot's last entry with the same term, otherwise discards the
   * whole log. The state machine reaches the snapshot when it is installed.
   */
  restoreTo(snapshot: LogPosition): void {
    assert(snapshot.index > this.#commit, "a snapshot at or below the commit index is ignored", {
      snapshot: snapshot.index,
      commit: this.#commit,
    });
    if (this.termAt(snapshot.index) === snapshot.term) {
      this.#terms.trimTo(snapshot.index);
      this.#dropWindowBelow(snapshot.index + 1);
    } else {
      this.#terms.reset(snapshot);
      this.#window = [];
      this.#windowBytes = 0;
      this.#persisted = this.#persisting = snapshot.index;
    }
    this.#commit = snapshot.index;
    this.#persisted = Math.max(this.#persisted, snapshot.index);
    this.#persisting = Math.max(this.#persisting, snapshot.index);
    this.#applying = snapshot.index;
  }

  /** Bytes of the entries in memory. */
  get windowBytes(): number {
    return this.#windowBytes;
  }

  /** Index of the first entry that is in memory; one more than the last index when none is. */
  get firstInMemory(): number {
    return this.last.index - this.#window.length + 1;
  }

  #assertUnappliedInMemory(): void {
    assert(this.firstInMemory <= this.#applied + 1, "entries not yet applied are in the window", {
      windowStart: this.firstInMemory,
      applied: this.#applied,
    });
  }

  #slice(first: number, last: number): Entry[] {
    const start = this.firstInMemory;
    assert(last < first || first >= start, "entries to persist or apply are in the window", { first, last, start });
    return this.#window.slice(first - start, last - start + 1);
  }

  #remember(entry: Entry): void {
    this.#window.push(entry);
    this.#windowBytes += entryBytes(entry);
  }

  /** Evicts entries that nothing needs in memory, once they exceed windowBytes. */
  #evict(): void {
    if (this.#windowBytes <= this.bounds.windowBytes) return;
    // Much may be committed while a snapshot is loading. The state machine then reads those entries
    // from the log on disk.
    const isLoading = this.#applied < this.boundary.index;
    const needed = Math.min(isLoading ? this.#commit : this.#applied, this.#persisted) + 1;
    let keepFrom = this.firstInMemory;
    let bytes = this.#windowBytes;
    // Evict down to half of the limit, so that the window is not shifted at every entry.
    while (keepFrom < needed && bytes > this.bounds.windowBytes / 2) {
      bytes -= entryBytes(this.#window[keepFrom - this.firstInMemory]!);
      keepFrom++;
    }
    this.#dropWindowBelow(keepFrom);
  }

  #dropWindowBelow(index: number): void {
    const count = Math.min(Math.max(0, index - this.firstInMemory), this.#window.length);
    if (count === 0) return;
    for (const entry of this.#window.splice(0, count)) this.#windowBytes -= entryBytes(entry);
  }
}
