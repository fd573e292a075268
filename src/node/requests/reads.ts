import type { CancelSignal } from "../../base/cancel_signal.js";
import type { NodeHost } from "../host.js";
import type { Ticker } from "../ticker.js";
import { PendingAnswers } from "./pending_answers.js";
import { refusal } from "./refusals.js";

/** Place of the state that a read is answered from. */
export type ReaderPlace = "here" | "at a member";

/** Linearizable reads that wait for the index at which they may be answered. */
export class Reads {
  readonly #answers = new PendingAnswers<number>();
  #nextRead = 1;

  constructor(
    private readonly host: NodeHost,
    private readonly ticker: Ticker,
  ) {}

  /**
   * Resolves with the index that must be applied before the state may be read. Rejects with
   * NOT_LEADER, CANCELLED.
   */
  index(reader: ReaderPlace, signal?: CancelSignal): Promise<number> {
    const read = this.#nextRead++;
    const answer = this.#answers.wait(read, signal);
    this.host.core((raft) => {
      // A lease would seem valid beyond its end if the clock had stood still.
      if (this.ticker.isLate) raft.distrustClock();
      raft.readIndex(read);
      if (reader === "at a member") raft.hastenCommitNotice();
    });
    this.answer();
    this.host.wake();
    return answer;
  }

  /** Answers the reads for which the core has an index. */
  answer(): void {
    const { id, raft } = this.host;
    for (const { requestId, index } of this.host.core((raft) => raft.takeReads())) {
      if (index !== undefined) this.#answers.resolve(requestId, index);
      else this.#answers.reject(requestId, refusal("not_leader", id, raft));
    }
  }

  failAll(error: unknown): void {
    this.#answers.rejectAll(error);
  }
}
