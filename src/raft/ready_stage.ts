import { assert } from "../base/assert.js";
import type { Ready } from "./ready.js";
import type { RaftState } from "./state.js";
import type { Entry, HardState, SnapshotMeta } from "./types.js";

/**
 * Gathers what must happen in the world into one {@link Ready} after the other, and notes when it
 * has.
 */
export class ReadyStage {
  readonly #state: RaftState;
  #lastHardState: HardState;
  #taken: Ready | undefined;

  constructor(state: RaftState) {
    this.#state = state;
    this.#lastHardState = state.hardState;
  }

  /** Whether {@link take} has anything to say. */
  get hasReady(): boolean {
    const { log, outbox } = this.#state;
    return (
      this.#taken === undefined &&
      (outbox.isWaiting ||
        log.hasUnpersisted ||
        this.#state.unwrittenSnapshot !== undefined ||
        (log.hasUnapplied && this.#state.pendingSnapshot === undefined) ||
        this.#hardStateChange() !== undefined)
    );
  }

  /**
   * Returns the work to carry out next. The caller hands each Ready to {@link done} before it takes
   * the next one.
   */
  take(): Ready {
    assert(this.#taken === undefined, "one Ready at a time", {});
    const termChanged = this.#state.term !== this.#lastHardState.term;
    const ready = termChanged && this.#state.unwrittenSnapshot !== undefined ? this.#termOnly() : this.#everything();
    if (ready.hardState !== undefined) this.#lastHardState = ready.hardState;
    this.#taken = ready;
    return ready;
  }

  #everything(): Ready {
    const { log, outbox, pendingSnapshot, unwrittenSnapshot } = this.#state;
    const hardState = this.#hardStateChange();
    const { term, vote } = this.#lastHardState;
    const termChanged = hardState !== undefined && hardState.term !== term;
    const voteChanged = hardState !== undefined && hardState.vote !== vote;
    const entries = log.takeUnpersisted();
    return {
      snapshot: unwrittenSnapshot,
      hardState,
      entries,
      mustSync: termChanged || voteChanged || entries.length > 0 || unwrittenSnapshot !== undefined,
      messages: outbox.takeWaiting(),
      committed: pendingSnapshot !== undefined || termChanged ? [] : log.takeUnapplied(),
    };
  }

  /**
   * The term alone, ahead of a snapshot. What a leader says is committed must not outlast its term:
   * a node that came back with the snapshot but in an older term would listen to leaders that were
   * deposed before the snapshot's sender, and tell them that its log agrees with theirs up to a
   * boundary that they never reached.
   */
  #termOnly(): Ready {
    const { term, vote } = this.#state.hardState;
    const hardState = { term, vote, commit: this.#lastHardState.commit };
    return { snapshot: undefined, hardState, entries: [], mustSync: true, messages: [], committed: [] };
  }

  /**
   * Committed and durable since the Ready under way was taken: applied without a wait for it, and
   * reported to {@link applied} before its end.
   */
  takeCommitted(): readonly Entry[] {
    return this.hasCommitted ? this.#state.log.takeUnapplied() : [];
  }

  get hasCommitted(): boolean {
    const { log, pendingSnapshot, isTermDurable } = this.#state;
    return this.#taken !== undefined && pendingSnapshot === undefined && isTermDurable && log.hasUnapplied;
  }

  /** What {@link takeCommitted} gave is applied. */
  applied(entries: readonly Entry[]): void {
    const last = entries.at(-1);
    if (last !== undefined) this.#state.log.appliedTo(Math.max(last.index, this.#state.log.applied));
  }

  /**
   * All of `ready` was carried out: its writes and its snapshot are durable, its entries are
   * applied.
   */
  done(ready: Ready): void {
    assert(ready === this.#taken, "the Ready that was taken is the one that is done", {});
    this.#taken = undefined;
    const state = this.#state;
    if (ready.hardState !== undefined && ready.mustSync) state.hardStatePersisted(ready.hardState);
    if (ready.snapshot !== undefined) this.#snapshotWritten(ready.snapshot);
    const lastWritten = ready.entries.at(-1);
    if (lastWritten !== undefined) state.log.persistedTo(lastWritten.index);
    this.applied(ready.committed);
  }

  #snapshotWritten(snapshot: SnapshotMeta): void {
    const state = this.#state;
    assert(state.unwrittenSnapshot === snapshot, "the pending snapshot was written", { snapshot: snapshot.index });
    state.isSnapshotDurable = true;
  }

  #hardStateChange(): HardState | undefined {
    const { term, vote, commit } = this.#state.hardState;
    const last = this.#lastHardState;
    return term === last.term && vote === last.vote && commit === last.commit ? undefined : { term, vote, commit };
  }
}
