import type { PeerEndpoint } from "../peers/peer_endpoint.js";
import { type Introducer, memberIntroducer } from "./introducer.js";
import { explained } from "./leader_hint.js";
import type { ServedNode } from "./served_node.js";

/** Returns the endpoint through which peers see a node. */
export function peerEndpoint(node: ServedNode, introducer: Introducer = memberIntroducer(node)): PeerEndpoint {
  return {
    get id() {
      return node.id;
    },
    get incarnation() {
      return node.incarnation;
    },
    get clusterId() {
      return node.clusterId;
    },
    get newestRules() {
      return node.machine.newestRules ?? 0;
    },
    introduce: (asked) => introducer.introduce(asked),
    async join(change, signal) {
      try {
        return { ...(await node.changeMembership(change, signal)), base: introducer.base };
      } catch (error) {
        throw explained(error, node);
      }
    },
    requestVote: (message) => node.requestVote(message),
    appendEntries: (message) => node.appendEntries(message),
    async tryApplied(index) {
      // The index tells the caller what an error would: a full disk, a node that stops.
      if (node.machine.appliedIndex < index) await node.waitApplied(index).catch(() => {});
      return node.machine.appliedIndex;
    },
    receiveSnapshot: (messages) => node.receiveSnapshot(messages),
    timeoutNow: (message) => node.timeoutNow(message),
    violated: (sender, detail) => node.protocol.violated(sender, detail),
    strange: (sender, detail) => node.protocol.strange(sender, detail),
    otherProtocol: (sender, detail) => node.protocol.otherProtocol(sender, detail),
  };
}
