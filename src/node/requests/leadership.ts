import { checkId, checkText } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import type { MembershipChange } from "../../raft/membership/membership_change.js";
import type { IndexedMembership } from "../../raft/types.js";
import { checkMembershipChange } from "../check_options.js";
import type { NodeHost } from "../host.js";
import type { Conditions } from "./conditions.js";
import type { Proposals } from "./proposals.js";
import { refusal } from "./refusals.js";

const NOTHING = new Uint8Array(0);

/**
 * Carries out an operator's requests about leadership and membership. The doc comments are at
 * {@link CairnNode}'s methods.
 */
export class Leadership {
  constructor(
    private readonly host: NodeHost,
    private readonly conditions: Conditions,
    private readonly proposals: Pick<Proposals<unknown>, "wait">,
  ) {}

  async campaign(signal?: AbortSignal): Promise<number> {
    const { id, raft } = this.host;
    const campaign = this.host.core((raft) => raft.campaign());
    if ("refused" in campaign) {
      throw new CairnError("FAILED_PRECONDITION", `node ${id} cannot campaign: ${campaign.refused}`);
    }
    this.host.wake();
    const look = () => {
      if (raft.isEstablishedLeader) return raft.term;
      if (raft.role !== "follower") return undefined;
      const voters = raft.membership.members.filter(({ role }) => role === "voter");
      const names = voters.map((voter) => voter.id).join(", ");
      const text = `node ${id} was not elected: in an election timeout, no majority of the voters ${names} voted for it and followed it`;
      throw new CairnError("NOT_LEADER", text, { leaderHint: raft.leader });
    };
    return this.conditions.wait(look, "the end of the election", signal);
  }

  async transfer(to: string | undefined, signal?: AbortSignal): Promise<string> {
    if (to !== undefined) checkText("to", to);
    const { id, raft } = this.host;
    if (raft.role !== "leader") throw refusal("not_leader", id, raft);
    if (to === id) return to;
    const transfer = this.host.core((raft) => raft.transferLeadership(to));
    if ("refused" in transfer) {
      throw new CairnError("FAILED_PRECONDITION", `leadership cannot be handed over: ${transfer.refused}`);
    }
    const target = raft.transferTarget;
    this.host.wake();
    const look = () => {
      if (raft.role !== "leader") return raft.leader;
      if (raft.transferTarget === target) return undefined;
      const text = `${target} did not take over within an election timeout: node ${id} keeps leading`;
      throw new CairnError("FAILED_PRECONDITION", text);
    };
    return this.conditions.wait(look, "the new leader", signal);
  }

  async barrier(signal?: AbortSignal): Promise<number> {
    const { id, raft } = this.host;
    const proposal = this.host.core((raft) => raft.propose(NOTHING, "no-op"));
    if ("refused" in proposal) throw refusal(proposal.refused, id, raft);
    const committed = this.proposals.wait(proposal.accepted, signal);
    this.host.wake();
    await committed;
    return proposal.accepted.index;
  }

  async changeMembership(change: MembershipChange, signal?: AbortSignal): Promise<IndexedMembership> {
    checkMembershipChange(change);
    const { id, raft } = this.host;
    checkId(change.id, "member id");
    const proposal = this.host.core((raft) => raft.changeMembership(change));
    if ("refused" in proposal) throw refusal(proposal.refused, id, raft);
    if ("impossible" in proposal) {
      const code = proposal.isFinal === true ? "NOT_FOUND" : "FAILED_PRECONDITION";
      throw new CairnError(code, `the membership cannot be changed: ${proposal.impossible}`);
    }
    const { membership } = raft;
    if ("unchanged" in proposal) return membership;
    const committed = this.proposals.wait(proposal.accepted, signal);
    this.host.wake();
    await committed;
    return membership;
  }
}
