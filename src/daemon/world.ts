import type { StateMachine } from "../machine/state_machine.js";
import type { CairnNode } from "../node/node.js";
import type { Introduced, Introduction, NamedAddress } from "../raft/membership/introduction.js";
import type { CameBy } from "../raft/membership/membership_change.js";
import type { LostData } from "../raft/state.js";
import type { Introducer } from "../server/introducer.js";
import type { FileSystem } from "../system/fs.js";
import type { Contact, JoinAnswer } from "./arrival.js";

/** What a member needs of its node. */
export type MemberNode = Pick<
  CairnNode<unknown, StateMachine>,
  "id" | "incarnation" | "clusterId" | "identity" | "elections" | "isNew" | "raft" | "found" | "removed" | "stop"
>;

/** Who asks to become a member. */
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
  /** Where it listens: host:port with the real port. */
  readonly address: string;
  /** Lets the calls under way end, and takes no more. */
  stop(): Promise<void>;
}

/** All that a member does outside itself, so that the simulator can run it. */
export interface World<Node extends MemberNode = MemberNode> {
  readonly fs: FileSystem;
  /**
   * Starts the node on the directory, whosever that is now.
   * @throws CairnError as {@link CairnNode.start}
   */
  startNode(onLost: (lost: LostData) => void): Promise<Node>;
  /** Starts to serve it. @throws CairnError when the address cannot be listened on */
  serve(node: Node, listen: string, introducer: Introducer): Promise<Served>;
  /**
   * Resolves with undefined when the node does not answer, is another one than was meant, or says
   * what no correct node says. Never rejects.
   */
  ask(contact: Contact, asked: Introduction): Promise<Introduced | undefined>;
  /** Asks the leader for a place. Never rejects. */
  join(leader: NamedAddress, joiner: Joiner): Promise<JoinAnswer>;
  /** Resolves after a while, or when the signal is aborted. */
  pause(ms: number, signal: AbortSignal): Promise<void>;
  /** Milliseconds from some moment on. */
  now(): number;
  /** Ends connections to others. */
  close(): void;
}
