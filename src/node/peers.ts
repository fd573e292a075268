import { hasCode } from "../base/errors.js";
import { memberKey, nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import type { StateMachine } from "../machine/state_machine.js";
import type { InstallStream, Peer, Transport, TransportEvents } from "../peers/transport.js";
import type { LogRead } from "../raft/leader/replication.js";
import type { PeerRequest } from "../raft/messages.js";
import type { IndexedMembership } from "../raft/types.js";
import type { WriteAheadLog } from "../storage/wal/wal.js";
import type { Clock } from "../system/clock.js";
import type { NodeHost } from "./host.js";
import type { NodeOptions } from "./options.js";
import type { ProtocolWatch } from "./protocol_watch.js";

/** Options of a node that configure its connections to other members. */
export type PeerSettings = Pick<NodeOptions<unknown, StateMachine>, "transport" | "peerAddresses">;

export interface PeersOptions {
  readonly clusterId: string;
  readonly settings: PeerSettings;
  readonly protocol: Pick<ProtocolWatch, "refusedBy">;
  readonly clock: Clock;
}

/**
 * Reaches the other members: knows their addresses, sends the core's messages, reads log entries
 * for them, and opens streams for snapshots.
 */
export class Peers {
  readonly #transport: Transport | undefined;
  /** Newest rules for commands that members have told this node, by member key. */
  readonly rules = new Map<string, number>();
  #membership: IndexedMembership | undefined;
  /** Peers by member key. */
  #addresses = new Map<string, Peer>();
  /** Calls off the message that tells the followers of a commit; undefined when none is due. */
  #callOffNotice: (() => void) | undefined;

  constructor(
    private readonly host: NodeHost,
    private readonly log: WriteAheadLog,
    private readonly options: PeersOptions,
  ) {
    const { clusterId, settings } = options;
    this.#transport = settings.transport?.({ id: host.key, clusterId }, this.#events());
    this.followMembership();
  }

  /** Adopts the core's membership if it has changed. */
  followMembership(): void {
    const { membership } = this.host.raft;
    if (membership === this.#membership) return;
    this.#membership = membership;
    const addresses = this.options.settings.peerAddresses ?? {};
    const peers = membership.members.map((member): Peer => {
      return { id: memberKey(member), address: addresses[member.id] ?? member.address };
    });
    this.#addresses = new Map(peers.filter(({ id }) => id !== this.host.key).map((peer) => [peer.id, peer]));
    this.#transport?.retain([...this.#addresses.values()]);
    for (const id of this.rules.keys()) if (!this.#addresses.has(id)) this.rules.delete(id);
  }

  send(request: PeerRequest): void {
    const peer = this.#addresses.get(request.to);
    if (peer !== undefined) this.#transport?.send(peer, request);
  }

  /** Opens a stream for a snapshot; undefined when the address of this member is not known. */
  openInstall(to: string): InstallStream | undefined {
    const peer = this.#addresses.get(to);
    return peer === undefined ? undefined : this.#transport?.openInstall(peer);
  }

  /**
   * Carries out the log reads that the core wants for its followers, and tells them of commits that
   * no entry follows.
   */
  serve(): void {
    for (const read of this.host.core((raft) => raft.takeLogReads())) void this.#read(read);
    if (this.host.raft.hasUntoldCommit) this.#callOffNotice ??= this.#noticeLater();
  }

  /** Ends all calls and connections. */
  async stop(): Promise<void> {
    this.#callOffNotice?.();
    await this.#transport?.close();
  }

  /** Tells the followers of a commit after a moment, unless the next entries do it sooner. */
  #noticeLater(): () => void {
    return this.options.clock.after(limits.commitNoticeMs, () => {
      this.#callOffNotice = undefined;
      this.#hear(() => this.host.core((raft) => raft.announceCommit()));
    });
  }

  #events(): TransportEvents {
    const { host } = this;
    return {
      answer: (answer) => {
        this.#hear(() => {
          if (answer.type === "append_entries_answer" && answer.outcome === "rejected") {
            const { reason, detail } = answer.rejection;
            if (reason === "safety") this.options.protocol.refusedBy(nameOf(answer.from), detail);
          }
          host.core((raft) => raft.receive(answer));
        });
      },
      rules: (peer, newest) => void this.rules.set(peer, newest),
      unreachable: (peer) => this.#hear(() => host.core((raft) => raft.unreachable(peer))),
    };
  }

  /** Handles an event, unless the node is stopping. */
  #hear(handle: () => void): void {
    const { ending } = this.host;
    if (ending.hasBegun) return;
    ending.attempt(handle);
    this.host.wake();
  }

  async #read(read: LogRead): Promise<void> {
    const { ending } = this.host;
    try {
      const entries = await this.log.entries(read.first, read.last, read.maxBytes).catch(noneWhenTrimmed);
      if (ending.hasBegun) return;
      this.host.core((raft) => raft.entriesRead(read, entries));
      this.host.wake();
    } catch (error) {
      // A node whose log cannot be read must not lead.
      ending.fail(error);
    }
  }
}

function noneWhenTrimmed(error: unknown): [] {
  if (hasCode(error, "OUT_OF_RANGE")) return [];
  throw error;
}
