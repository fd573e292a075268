/**
 * Linearizable reads by ReadIndex (thesis section 6.4): a read may be answered from the state at an
 * index that was committed when the read arrived, once this node is known to have led at that
 * moment: a majority has answered a message that was sent after it. Reads that arrive before such a
 * message is sent share it.
 */
export class ReadQueue {
  #batches: Batch[] = [];
  #answered: ReadState[] = [];

  /**
   * Takes in a read that is confirmed by answers to messages from `round` on. `index`: what was
   * committed when it arrived; undefined while the leader does not know, before it has committed an
   * entry of its own term (Raft section 8).
   */
  add(requestId: number, round: number, index: number | undefined): void {
    const last = this.#batches.at(-1);
    if (last?.round === round && last.index === index) last.requestIds.push(requestId);
    else this.#batches.push({ requestIds: [requestId], round, index });
  }

  /** The round that has to be sent for the reads that wait; 0 when none does. */
  get wantedRound(): number {
    return this.#batches.at(-1)?.round ?? 0;
  }

  /**
   * A majority has answered messages of `round` or later, and everything up to `commit` is known to
   * be committed.
   */
  confirm(round: number, commit: number): void {
    let count = 0;
    for (; count < this.#batches.length && this.#batches[count]!.round <= round; count++) {
      const { requestIds, index } = this.#batches[count]!;
      for (const requestId of requestIds) this.answer(requestId, index ?? commit);
    }
    if (count > 0) this.#batches.splice(0, count);
  }

  answer(requestId: number, index: number | undefined): void {
    this.#answered.push({ requestId, index });
  }

  /** This node no longer leads: none of the waiting reads can be answered here. */
  fail(): void {
    for (const { requestIds } of this.#batches) {
      for (const requestId of requestIds) this.answer(requestId, undefined);
    }
    this.#batches = [];
  }

  takeAnswers(): readonly ReadState[] {
    const answered = this.#answered;
    this.#answered = [];
    return answered;
  }
}

interface Batch {
  readonly requestIds: number[];
  readonly round: number;
  readonly index: number | undefined;
}

/** The answer to a read request. */
export interface ReadState {
  readonly requestId: number;
  /**
   * Answer the read when this index is applied; undefined: this node does not lead, ask elsewhere.
   */
  readonly index: number | undefined;
}
