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

/** One question, for all reads that waited when it was asked. */
class SharedQuestion {
  /** Whether the state may answer the reads; else they are to be passed on. */
  readonly isReadable: Promise<boolean>;
  settle!: (isReadable: boolean) => void;
  fail!: (error: unknown) => void;

  constructor() {
    this.isReadable = new Promise((resolve, reject) => {
      this.settle = resolve;
      this.fail = reject;
    });
  }
}

/** The questions to one leader. */
class Questions<Leader> {
  /** Number of questions whose index is not told, or not applied yet. */
  underWay = 0;
  /** Number of those that take too long. */
  late = 0;
  /** The next question, for the reads that came since the last one was asked. */
  next: SharedQuestion | undefined;

  constructor(readonly leader: Leader) {}

  /** Has the reads of the next question passed on. */
  passNextOn(): void {
    this.next?.settle(false);
    this.next = undefined;
  }
}

/**
 * Decides for each linearizable read at a follower when the follower's state may answer it. All
 * reads that wait share one question to the leader: those of one turn of the event loop, and more
 * while many questions are under way. No read joins a question that was asked before it came,
 * because its index may miss writes that were answered in between. A read that would wait long is
 * to be passed on to the leader instead, so that a slow follower does not delay it, and so are all
 * further reads until the follower has caught up with that question.
 */
export class FollowerReads<Leader extends AskedLeader> {
  #questions: Questions<Leader> | undefined;

  constructor(
    private readonly node: ReadingNode,
    private readonly clock: Pick<Clock, "after" | "soon">,
    private readonly ask: IndexQuestion<Leader>,
  ) {}

  /**
   * Resolves with true when the state may be read, at once, and with false when the read is to be
   * passed on; undefined when it is to be passed on without a wait.
   * @throws CairnError as the question does; CANCELLED
   */
  readable(leader: Leader, cancel: CancelSignal): Promise<boolean> | undefined {
    if (this.node.raft.lost !== undefined) return undefined;
    const questions = this.#questionsTo(leader);
    if (questions.late > 0) return undefined;
    const { isReadable } = questions.next ?? this.#prepare(questions);
    return sharing(isReadable, cancel, "the read index");
  }

  /** Another leader does not wait for one that may hang. */
  #questionsTo(leader: Leader): Questions<Leader> {
    const questions = this.#questions;
    if (questions !== undefined && isSame(questions.leader, leader)) return questions;
    questions?.passNextOn();
    this.#questions = new Questions(leader);
    return this.#questions;
  }

  #prepare(questions: Questions<Leader>): SharedQuestion {
    const question = new SharedQuestion();
    questions.next = question;
    if (questions.underWay === 0) this.#begin(questions, question);
    else if (questions.underWay < limits.followerReadQuestions) {
      this.clock.soon(() => this.#begin(questions, question));
    }
    return question;
  }

  /** Asks a question, unless it was asked, or its reads were passed on. */
  #begin(questions: Questions<Leader>, question: SharedQuestion | undefined): void {
    if (question === undefined || questions.next !== question) return;
    questions.next = undefined;
    questions.underWay++;
    let isLate = false;
    const callOff = this.clock.after(limits.followerReadMs, () => {
      isLate = true;
      questions.late++;
      question.settle(false);
      questions.passNextOn();
    });
    this.#reach(questions.leader)
      .then(question.settle, question.fail)
      .then(() => {
        callOff();
        questions.underWay--;
        if (isLate) questions.late--;
        this.#begin(questions, questions.next);
      });
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
