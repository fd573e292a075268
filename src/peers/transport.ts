import type { PeerAnswer, PeerRequest } from "../raft/messages.js";
import type { InstallMessage, InstallReply } from "./install/install_messages.js";

// The interface through which a node sends to its peers.

/** A member of the cluster, as other members reach it. */
export interface Peer {
  /** Its member key (see ids.ts). */
  readonly id: string;
  /** host:port */
  readonly address: string;
}

/**
 * Carries a node's messages to its peers. A transport may lose messages, and the node copes with
 * that. It must not change them, and must hand in each answer with the request that it belongs to.
 */
export interface Transport {
  /**
   * Sends a request. Never waits and never throws: drops a request that cannot be sent now. The
   * answer, if one comes, goes to {@link TransportEvents.answer}.
   */
  send(to: Peer, request: PeerRequest): void;
  /** Opens a stream for a snapshot. The stream does not delay other messages to that peer. */
  openInstall(to: Peer): InstallStream;
  /** Sets the peers: the transport may close connections to all others. */
  retain(peers: readonly Peer[]): void;
  /** Ends all calls and connections. Nothing is reported afterwards. */
  close(): Promise<void>;
}

/** Receives the events of a transport. */
export interface TransportEvents {
  answer(answer: PeerAnswer): void;
  /**
   * Reports that requests to this peer which are not answered may be lost. Called once for each
   * break of a connection, not for each message.
   */
  unreachable(peer: string): void;
  /** Reports the newest rules for commands that a peer knows; 0: it does not tell. @internal */
  rules?(peer: string, newest: number): void;
}

/** Makes the transport of a node. */
export type TransportFactory = (
  self: { readonly id: string; readonly clusterId: string },
  events: TransportEvents,
) => Transport;

/** Sends the messages of one snapshot transfer. */
export interface InstallStream {
  /**
   * Resolves when there is room for the next message; rejects when the stream has failed or the
   * receiver has ended it.
   */
  send(message: InstallMessage): Promise<void>;
  /** Messages of the receiver, for one reader. Throws the error that the stream has failed with. */
  readonly replies: AsyncIterable<InstallReply>;
  /** Ends the stream at both ends; may be called more than once. */
  cancel(): void;
}
