import { memberKey } from "../base/ids.js";
import { plainQuestion } from "../raft/membership/introduction.js";
import type { Contact } from "./arrival.js";
import type { MemberEvent } from "./events.js";
import type { MemberNode, World } from "./world.js";

/**
 * Interval in milliseconds between checks for a leader, and number of consecutive checks without a
 * leader after which the node asks the other members.
 */
const LOOK_MS = 500;
const LOOKS_WITHOUT_LEADER = 6;

/**
 * Finds out that a node was removed: the members no longer send to it, so it asks them. Also
 * reports when a node that arrived as a learner becomes a voter.
 */
export class RemovalWatch {
  #silentLooks = 0;
  #isLearner = false;
  #toldIndex = 0;

  constructor(
    private readonly node: MemberNode,
    private readonly world: Pick<World, "ask" | "pause">,
    private readonly contacts: () => readonly Contact[],
    private readonly onEvent: (event: MemberEvent) => void,
  ) {}

  /**
   * Runs until the signal is aborted.
   * @param isLearner whether it came as a learner; the leader may have made it a voter already
   */
  async run(isLearner: boolean, signal: AbortSignal): Promise<void> {
    this.#isLearner = isLearner;
    this.#lookForVote();
    while (!signal.aborted) {
      await this.world.pause(LOOK_MS, signal);
      if (signal.aborted) return;
      this.#lookForVote();
      this.#silentLooks = this.node.raft.hearsLeader ? 0 : this.#silentLooks + 1;
      const isDue = this.#silentLooks > 0 && this.#silentLooks % LOOKS_WITHOUT_LEADER === 0;
      if (isDue && this.node.elections === "automatic") await this.#ask(signal);
    }
  }

  #lookForVote(): void {
    const { raft, clusterId } = this.node;
    const key = memberKey(this.node);
    const role = raft.membership.members.find((member) => memberKey(member) === key)?.role;
    if (role === "voter" && this.#isLearner) this.onEvent({ kind: "promoted", clusterId });
    this.#isLearner = role === "learner" || (this.#isLearner && role === undefined);
  }

  async #ask(signal: AbortSignal): Promise<void> {
    const { id, clusterId, raft } = this.node;
    const key = memberKey(this.node);
    const answers = await Promise.all(
      this.contacts().map((contact) => this.world.ask(contact, plainQuestion(id, contact.name ?? ""))),
    );
    if (signal.aborted) return;
    for (const answer of answers) {
      if (answer?.standing.kind !== "member" || answer.standing.clusterId !== clusterId) continue;
      const { membership, membershipIndex } = answer.standing;
      const isIn = membership.some((member) => memberKey(member) === key);
      if (isIn || membershipIndex <= raft.membership.index) continue;
      this.node.removed(membershipIndex);
      if (raft.removedAt === undefined || membershipIndex === this.#toldIndex) continue;
      this.#toldIndex = membershipIndex;
      this.onEvent({ kind: "removed", index: membershipIndex });
    }
  }
}
