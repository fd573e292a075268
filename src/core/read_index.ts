/**
 * Linearizable reads by ReadIndex (thesis section 6.4): a read may be answered from the state at an index that was committed when the
 * read arrived, once this node is known to have led at that moment. Reads wait here until the leader has committed an entry of its own
 * term, before which it does not know what is committed (Raft section 8).
 */
export class ReadQueue {
  #waiting: number[] = [];
  #answered: ReadState[] = [];

  /** Takes in a read. */
  add(requestId: number): void {
    this.#waiting.push(requestId);
  }

  /** All waiting reads may be answered once `index` is applied. */
  confirm(index: number): void {
    for (const requestId of this.#waiting) this.#answered.push({ requestId, index });
    this.#waiting = [];
  }

  /** This node no longer leads: none of the waiting reads can be answered here. */
  fail(): void {
    for (const requestId of this.#waiting) this.#answered.push({ requestId, index: undefined });
    this.#waiting = [];
  }

  takeAnswers(): readonly ReadState[] {
    const answered = this.#answered;
    this.#answered = [];
    return answered;
  }
}

/** The answer to a read request. */
export interface ReadState {
  readonly requestId: number;
  /** Answer the read when this index is applied; undefined: this node does not lead, ask elsewhere. */
  readonly index: number | undefined;
}
