import type { StateMachine } from "../machine/state_machine.js";
import type { CairnNode } from "../node/node.js";
import type { Introduced, Introduction, NamedAddress } from "../raft/membership/introduction.js";
import type { CameBy } from "../raft/membership/membership_change.js";
import type { LostData } from "../raft/state.js";
import type { Introducer } from "../server/introducer.js";
import type { FileSystem } from "../system/fs.js";
import type { Contact, JoinAnswer } from "./arrival.js";

/** The part of a node that its member uses. */
export type MemberNode = Pick<
  CairnNode<unknown, StateMachine>,
  "id" | "incarnation" | "clusterId" | "identity" | "elections" | "isNew" | "raft" | "found" | "removed" | "stop"
>;

/** A node that asks to become a member. */
export interface Joiner {
  readonly clusterId: string;
  readonly name: string;
  readonly incarnation: string;
  /** host:port at which the members are to reach it. */
  readonly address: string;
  readonly cameBy: CameBy;
}

/** A server while it runs. */
export interface Served {
  /** The address that it listens on: host:port with the real port. */
  readonly address: string;
  /** Accepts no more calls, and lets the calls under way end. */
  stop(): Promise<void>;
}

/**
 * Everything that a member does outside itself, behind one interface so that the simulator can run
 * it.
 */
export interface World<Node extends MemberNode = MemberNode> {
  readonly fs: FileSystem;
  /**
   * Starts the node on the directory, with the identity that the directory has now.
   * @throws CairnError as {@link CairnNode.start}
   */
  startNode(onLost: (lost: LostData) => void): Promise<Node>;
  /**
   * Starts to serve the node.
   * @throws CairnError when the address cannot be listened on
   */
  serve(node: Node, listen: string, introducer: Introducer): Promise<Served>;
  /**
   * Resolves with undefined when the node does not answer, is not the one asked for, or gives an
   * answer that no correct node gives. Never rejects.
   */
  ask(contact: Contact, asked: Introduction): Promise<Introduced | undefined>;
  /** Asks the leader to make this node a member. Never rejects. */
  join(leader: NamedAddress, joiner: Joiner): Promise<JoinAnswer>;
  /** Resolves after a while, or when the signal is aborted. */
  pause(ms: number, signal: AbortSignal): Promise<void>;
  /** Milliseconds since a fixed moment. */
  now(): number;
  /** Closes the connections to others. */
  close(): void;
}
