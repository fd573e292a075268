import { assert } from "./invariants.js";
import { limits } from "./limits.js";
import { majorityIndex } from "./quorum.js";
import type { RaftState } from "./state.js";
import { type EntryType, entryBytes, type LogPosition } from "./types.js";

/** What a leader keeps besides the state that all roles share. */
export class Leader {
  /** Sizes of the entries above the commit index that this leader appended, oldest first. */
  #uncommitted: { index: number; bytes: number }[] = [];
  #uncommittedBytes = 0;

  constructor(private readonly state: RaftState) {
    // Raft section 8: a new leader commits an entry of its own term to learn what is committed.
    this.#append("no-op", new Uint8Array());
  }

  /** Whether the queue of uncommitted entries has no room for one more of `bytes`. An empty queue takes any. */
  isFull(bytes: number): boolean {
    return this.#uncommittedBytes > 0 && this.#uncommittedBytes + bytes > limits.uncommittedBytes;
  }

  /** Appends a command to the log (Raft section 5.3). */
  propose(data: Uint8Array): LogPosition {
    return this.#append("command", data);
  }

  /**
   * Advances the commit index to what a majority has made durable, if that is an entry of this leader's own term (Raft section 5.4.2).
   * The leader counts itself with what is durable in its own log, like any other.
   */
  advanceCommit(): void {
    const { state } = this;
    const reached = majorityIndex(state.voters.map((id) => (id === state.id ? state.log.persisted : 0)));
    if (reached <= state.log.commit || state.log.termAt(reached) !== state.term) return;
    state.log.commitTo(reached);
    const pending = this.#uncommitted.findIndex((entry) => entry.index > reached);
    const committed = this.#uncommitted.splice(0, pending < 0 ? this.#uncommitted.length : pending);
    for (const { bytes } of committed) this.#uncommittedBytes -= bytes;
  }

  /** Answers waiting reads: with no other voter, this node's leadership needs no confirmation (thesis section 6.4). */
  confirmReads(): void {
    const { state } = this;
    assert(state.voters.length === 1, "reads are confirmed by a majority", { voters: state.voters });
    if (state.log.commit >= state.termStart) state.reads.confirm(state.log.commit);
  }

  #append(type: EntryType, data: Uint8Array): LogPosition {
    const { state } = this;
    const entry = { index: state.log.last.index + 1, term: state.term, type, data };
    state.append(entry);
    const bytes = entryBytes(entry);
    this.#uncommitted.push({ index: entry.index, bytes });
    this.#uncommittedBytes += bytes;
    // Not the entry: whoever waits for its commit would keep its data in memory.
    return { index: entry.index, term: entry.term };
  }
}
