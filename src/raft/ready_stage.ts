import { assert } from "../base/assert.js";
import type { Ready } from "./ready.js";
import type { RaftState } from "./state.js";
import type { Entry, HardState } from "./types.js";

/**
 * Gathers the core's pending work into one {@link Ready} after another, and records when each is
 * carried out.
 */
export class ReadyStage {
  readonly #state: RaftState;
  #lastHardState: HardState;
  #taken: Ready | undefined;
  #holdsCommitted = false;

  constructor(state: RaftState) {
    this.#state = state;
    this.#lastHardState = state.hardState;
  }

  /** Whether {@link take} has work to hand out. */
  get hasReady(): boolean {
    const { log, outbox } = this.#state;
    return (
      this.#taken === undefined &&
      (outbox.isWaiting ||
        log.hasUnpersisted ||
        this.#state.unwrittenSnapshot !== undefined ||
        (log.hasUnapplied && this.#state.pendingSnapshot === undefined && !this.#holdsCommitted) ||
        this.#hardStateChange() !== undefined)
    );
  }

  /**
   * Returns the work to carry out next. The caller hands each Ready to {@link written} before it
   * takes the next one.
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
      committed: pendingSnapshot !== undefined || termChanged || this.#holdsCommitted ? [] : log.takeUnapplied(),
    };
  }

  /**
   * Returns a Ready with the term alone, ahead of a snapshot. A leader's commit index must not
   * outlast its term on disk: a node that restarted with the snapshot but in an older term would
   * listen to leaders deposed before the snapshot's sender, and tell them that its log agrees with
   * theirs up to a boundary that they never reached.
   */
  #termOnly(): Ready {
    const { term, vote } = this.#state.hardState;
    const hardState = { term, vote, commit: this.#lastHardState.commit };
    return { snapshot: undefined, hardState, entries: [], mustSync: true, messages: [], committed: [] };
  }

  /**
   * Takes the entries that became committed and durable since a Ready last handed some out. The
   * node applies them without waiting for the Ready in hand, and reports them to {@link applied}.
   */
  takeCommitted(): readonly Entry[] {
    return this.hasCommitted ? this.#state.log.takeUnapplied() : [];
  }

  get hasCommitted(): boolean {
    const { log, pendingSnapshot, isTermDurable } = this.#state;
    return pendingSnapshot === undefined && isTermDurable && log.hasUnapplied && !this.#holdsCommitted;
  }

  /**
   * Hands out no further entries to apply until it is told otherwise: the node is not done with the
   * last ones, and must not stop everything else for them.
   */
  holdCommitted(isHeld: boolean): void {
    this.#holdsCommitted = isHeld;
  }

  /** Records that entries from {@link takeCommitted} or of a Ready are applied. */
  applied(entries: readonly Entry[]): void {
    const last = entries.at(-1);
    if (last !== undefined) this.#state.log.appliedTo(Math.max(last.index, this.#state.log.applied));
  }

  /**
   * Records that the writes and the snapshot of `ready` are durable. Its entries may still be
   * waiting to be applied.
   */
  written(ready: Ready): void {
    assert(ready === this.#taken, "the Ready that was taken is the one that is done", {});
    this.#taken = undefined;
    const state = this.#state;
    if (ready.hardState !== undefined && ready.mustSync) state.hardStatePersisted(ready.hardState);
    if (ready.snapshot !== undefined) state.snapshotWritten(ready.snapshot);
    const lastWritten = ready.entries.at(-1);
    if (lastWritten !== undefined) state.log.persistedTo(lastWritten.index);
  }

  #hardStateChange(): HardState | undefined {
    const { term, vote, commit } = this.#state.hardState;
    const last = this.#lastHardState;
    return term === last.term && vote === last.vote && commit === last.commit ? undefined : { term, vote, commit };
  }
}
