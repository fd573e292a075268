import type { Base, Introduced, Introduction } from "../raft/membership/introduction.js";
import type { MembershipChange } from "../raft/membership/membership_change.js";
import type {
  AppendEntries,
  AppendEntriesAnswer,
  MessageSender,
  RequestVote,
  RequestVoteAnswer,
  TimeoutNow,
  TimeoutNowAnswer,
  Unaddressed,
} from "../raft/messages.js";
import type { IndexedMembership } from "../raft/types.js";
import type { InstallMessage, InstallReply } from "./install/install_messages.js";

// The interface through which a node serves its peers.

/** The membership that a node has joined. */
export interface Joined extends IndexedMembership {
  /** Snapshot that the cluster began with; undefined when it began empty. */
  readonly base: Base | undefined;
}

/** A node as its peers see it: the peer service uses these methods alone. */
export interface PeerEndpoint {
  readonly id: string;
  /** Empty for a given identity. */
  readonly incarnation: string;
  /** Empty while the node belongs to no cluster. */
  readonly clusterId: string;
  /** Newest rules for commands that the node's state machine knows; 0 when it has none. */
  readonly newestRules: number;
  /** Tells another node, of any cluster or of none, the identity and the standing of this one. */
  introduce(asked: Introduction): Promise<Introduced>;
  /**
   * Makes another node a member. Only the leader can.
   * @throws CairnError NOT_LEADER, with the leader's address if it is known
   */
  join(change: MembershipChange & { readonly type: "join" }, signal: AbortSignal): Promise<Joined>;
  /** Resolves when the vote is durable. */
  requestVote(message: Unaddressed<RequestVote>): Promise<RequestVoteAnswer>;
  /** Resolves when the entries are durable. */
  appendEntries(message: Unaddressed<AppendEntries>): Promise<AppendEntriesAnswer>;
  /**
   * Waits until the node has applied its log up to `index`, as long as it can apply entries now.
   * Returns the index up to which it has.
   */
  tryApplied(index: number): Promise<number>;
  receiveSnapshot(messages: AsyncIterable<InstallMessage>): AsyncIterable<InstallReply>;
  timeoutNow(message: Unaddressed<TimeoutNow>): Promise<TimeoutNowAnswer>;
  /** Notes that a peer sent a message that no correct peer sends. */
  violated(sender: MessageSender, detail: string): void;
  /** Notes that a message was refused because it names another cluster or node. */
  strange(sender: MessageSender, detail: string): void;
  /** Notes that a message was refused because it is of another version of the protocol. */
  otherProtocol(sender: MessageSender, detail: string): void;
}
