import type { Base, Introduced, Introduction, Standing } from "../raft/membership/introduction.js";
import { addressOf } from "./leader_hint.js";
import type { ServedNode } from "./served_node.js";

/** Introduces a node to nodes that have no cluster in common with it. */
export interface Introducer {
  /** Snapshot that the node's cluster began with; undefined when it began empty. */
  readonly base: Base | undefined;
  /** Warnings for the operator, in words. */
  readonly warnings: readonly string[];
  introduce(asked: Introduction): Promise<Introduced>;
}

/**
 * Introduces a node with a given identity: it has had a cluster from its beginning, and promises
 * nothing.
 */
export function memberIntroducer(node: ServedNode): Introducer {
  return {
    base: undefined,
    warnings: [],
    introduce: async () => {
      const { id: name, incarnation } = node;
      return { name, incarnation, founders: [], base: undefined, standing: memberStanding(node) };
    },
  };
}

/**
 * Returns a member's information about its cluster: the newest membership that it knows to be
 * committed, and the leader.
 */
export function memberStanding(node: Pick<ServedNode, "raft" | "clusterId">): Standing & { kind: "member" } {
  const { raft, clusterId } = node;
  const { index, members } = raft.membershipAt(raft.log.commit);
  const leader =
    raft.leader === undefined ? undefined : { name: raft.leader, address: addressOf(node, raft.leader) ?? "" };
  return { kind: "member", clusterId, membership: members, membershipIndex: index, leader };
}
