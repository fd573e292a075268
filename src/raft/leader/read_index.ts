/**
 * Queues linearizable reads by ReadIndex (thesis section 6.4). A read may be answered from the
 * state at an index that was committed when the read arrived, once this node is known to have led
 * at that moment: a majority has answered a message that was sent afterwards. Reads that arrive
 * before such a message is sent share it.
 */
export class ReadQueue {
  #batches: ReadBatch[] = [];
  #answered: ReadState[] = [];

  /**
   * Adds a read that is confirmed by answers to messages from `round` on. `index` is the commit
   * index when the read arrived; undefined while the leader does not know it, before it has
   * committed an entry of its own term (Raft section 8).
   */
  add(requestId: number, round: number, index: number | undefined): void {
    const last = this.#batches.at(-1);
    if (last?.round === round && last.index === index) last.requestIds.push(requestId);
    else this.#batches.push({ requestIds: [requestId], round, index });
  }

  /** Round that must be sent for the waiting reads; undefined when none waits. */
  get wantedRound(): number | undefined {
    return this.#batches.at(-1)?.round;
  }

  /**
   * Answers the reads up to `round`: a majority has answered messages of that round or later, and
   * everything up to `commit` is known to be committed.
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

  /** Answers all waiting reads with undefined, because this node no longer leads. */
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

interface ReadBatch {
  readonly requestIds: number[];
  readonly round: number;
  readonly index: number | undefined;
}

/** The answer to a read request. */
export interface ReadState {
  readonly requestId: number;
  /**
   * The index that must be applied before the read is answered; undefined when this node does not
   * lead, so that the caller must ask elsewhere.
   */
  readonly index: number | undefined;
}
