import type { CancelSignal } from "../../base/cancel_signal.js";
import { limits } from "../../base/limits.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { Clock } from "../../system/clock.js";
import type { RaftView } from "../views.js";
import { sharing } from "./waiter.js";

// Answers linearizable reads from a follower's state (thesis section 6.4).

/** The leader that a follower asks. */
export interface AskedLeader {
  readonly id: string;
  readonly address: string;
}

/** The node that reads its own state. */
export interface ReadingNode {
  readonly raft: Pick<RaftView, "lost">;
  readonly machine: Pick<StateMachine, "appliedIndex">;
  waitApplied(index: number): Promise<void>;
}

/**
 * Asks a leader for its read index: an index that was committed when the question arrived, from a
 * leader that was confirmed after that. Resolves with "unknown" when the leader does not know the
 * question. Rejects with the error for the reads.
 */
export type IndexQuestion<Leader> = (leader: Leader) => Promise<number | "unknown">;

/** One question to a leader, for all reads that waited when it was asked. */
class SharedQuestion<Leader> {
  /** Whether the state may answer the reads; else they are to be passed on. */
  readonly isReadable: Promise<boolean>;
  settle!: (isReadable: boolean) => void;
  fail!: (error: unknown) => void;
  isLate = false;

  constructor(readonly leader: Leader) {
    this.isReadable = new Promise((resolve, reject) => {
      this.settle = resolve;
      this.fail = reject;
    });
  }
}

/**
 * Decides for each linearizable read at a follower when the follower's state may answer it. Reads
 * share one question to the leader: the next ones gather while it is under way, because an index
 * that was asked for before a read came may miss writes that were answered in between. A read that
 * would wait long is to be passed on to the leader instead, so that a slow follower does not delay
 * it, and so are all further reads until the follower has caught up with that question.
 */
export class FollowerReads<Leader extends AskedLeader> {
  /** The question that is under way, until the state has applied the index. */
  #asked: SharedQuestion<Leader> | undefined;
  /** The next question, for the reads that came since. */
  #next: SharedQuestion<Leader> | undefined;

  constructor(
    private readonly node: ReadingNode,
    private readonly clock: Pick<Clock, "after">,
    private readonly ask: IndexQuestion<Leader>,
  ) {}

  /**
   * Resolves with true when the state may be read, at once, and with false when the read is to be
   * passed on; undefined when it is to be passed on without a wait.
   * @throws CairnError as the question does; CANCELLED
   */
  readable(leader: Leader, cancel: CancelSignal): Promise<boolean> | undefined {
    const asked = this.#asked;
    if (this.node.raft.lost !== undefined) return undefined;
    if (asked === undefined || !isSame(asked.leader, leader)) {
      // Another leader does not wait for one that may hang.
      this.#passNextOn();
      return sharing(this.#begin(new SharedQuestion(leader)), cancel, "the read index");
    }
    if (asked.isLate) return undefined;
    this.#next ??= new SharedQuestion(leader);
    return sharing(this.#next.isReadable, cancel, "the read index");
  }

  #begin(question: SharedQuestion<Leader>): Promise<boolean> {
    this.#asked = question;
    const callOff = this.clock.after(limits.followerReadMs, () => this.#isLate(question));
    this.#reach(question.leader)
      .then(question.settle, question.fail)
      .then(() => {
        callOff();
        this.#ended(question);
      });
    return question.isReadable;
  }

  #isLate(question: SharedQuestion<Leader>): void {
    question.isLate = true;
    question.settle(false);
    if (this.#asked === question) this.#passNextOn();
  }

  #ended(question: SharedQuestion<Leader>): void {
    if (this.#asked !== question) return;
    const next = this.#next;
    this.#asked = undefined;
    this.#next = undefined;
    if (next !== undefined) this.#begin(next);
  }

  #passNextOn(): void {
    this.#next?.settle(false);
    this.#next = undefined;
  }

  /** Asks, and waits until the state has applied the index; false when it cannot soon. */
  async #reach(leader: Leader): Promise<boolean> {
    const index = await this.ask(leader);
    if (index === "unknown") return false;
    const { node } = this;
    if (index - node.machine.appliedIndex > limits.followerReadEntries) return false;
    try {
      await node.waitApplied(index);
    } catch {
      // A full disk, or the end of this node: the leader may still answer.
      return false;
    }
    return node.raft.lost === undefined;
  }
}

function isSame(one: AskedLeader, other: AskedLeader): boolean {
  return one.id === other.id && one.address === other.address;
}
