import { hasCode } from "../base/errors.js";
import { memberKey, nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import type { StateMachine } from "../machine/state_machine.js";
import type { Peer, Transport, TransportEvents } from "../peers/transport.js";
import type { LogRead, SnapshotSend, TransferOutcome } from "../raft/leader/replication.js";
import type { PeerRequest } from "../raft/messages.js";
import type { IndexedMembership } from "../raft/types.js";
import type { SnapshotInfo } from "../storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../storage/snapshots/snapshot_store.js";
import type { WriteAheadLog } from "../storage/wal/wal.js";
import type { Clock } from "../system/clock.js";
import type { Logger } from "../system/logger.js";
import type { NodeHost } from "./host.js";
import type { NodeOptions } from "./options.js";
import type { ProtocolWatch } from "./protocol_watch.js";
import { Bandwidth } from "./snapshots/bandwidth.js";
import { type OutgoingTransfer, SendQueue } from "./snapshots/send_queue.js";

/** Options of a node that configure its connections to other members. */
export type PeerSettings = Pick<
  NodeOptions<unknown, StateMachine>,
  | "transport"
  | "peerAddresses"
  | "snapshotChunkBytes"
  | "transferResumeMs"
  | "snapshotBandwidth"
  | "snapshotCompression"
>;

export interface PeersOptions {
  readonly clusterId: string;
  readonly settings: PeerSettings;
  /** Takes a snapshot of the present state. */
  readonly takeSnapshot: () => Promise<SnapshotInfo | undefined>;
  /** The sending of a snapshot is about to begin. */
  readonly transferBegun: (to: string) => void;
  /** The sending of a snapshot has ended, and the core has been told. */
  readonly transferEnded: (to: string, outcome: TransferOutcome) => void;
  readonly protocol: Pick<ProtocolWatch, "refusedBy">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Reaches the other members: sends the core's messages, reads log entries for them, and transfers
 * snapshots.
 */
export class Peers {
  readonly #transport: Transport | undefined;
  readonly #sendQueue: SendQueue;
  #membership: IndexedMembership | undefined;
  /** Peers by member key. */
  #addresses = new Map<string, Peer>();
  /** Calls off the message that tells the followers of a commit; undefined when none is due. */
  #callOffNotice: (() => void) | undefined;
  #stopped = false;

  constructor(
    private readonly host: NodeHost,
    private readonly log: WriteAheadLog,
    snapshots: SnapshotStore,
    private readonly options: PeersOptions,
  ) {
    const { clusterId, clock, logger, settings } = options;
    const { key: id } = host;
    const { snapshotChunkBytes, snapshotBandwidth, snapshotCompression } = settings;
    this.#transport = settings.transport?.({ id, clusterId }, this.#events());
    this.#sendQueue = new SendQueue({
      id,
      snapshots,
      clock,
      logger,
      idleMs: limits.transferIdleMs,
      chunkBytes: snapshotChunkBytes ?? limits.installChunkBytes,
      resumeMs: settings.transferResumeMs ?? limits.transferResumeMs,
      atOnce: limits.outgoingTransfers,
      bandwidth: snapshotBandwidth === undefined ? undefined : new Bandwidth(snapshotBandwidth, clock),
      compression: snapshotCompression,
      isWanted: ({ term }) => host.raft.role === "leader" && host.raft.term === term,
      choices: () => this.#snapshotsToSend(snapshots),
      open: (to) => {
        const peer = this.#peer(to);
        return peer === undefined ? undefined : this.#transport?.openInstall(peer);
      },
      ended: (send, outcome) => this.#transferEnded(send, outcome),
    });
    this.followMembership();
  }

  /** Snapshot transfers to followers that are under way. */
  get transfers(): OutgoingTransfer[] {
    return this.#sendQueue.list();
  }

  /**
   * Lowest index behind which the log must be retained for followers that are being sent a
   * snapshot, or soon will be again; undefined when there are none.
   */
  get pinnedIndex(): number | undefined {
    return this.#sendQueue.pinnedIndex;
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
  }

  send(request: PeerRequest): void {
    const peer = this.#peer(request.to);
    if (peer !== undefined) this.#transport?.send(peer, request);
  }

  /** Carries out the log reads and the snapshot transfers that the core wants for its followers. */
  serve(): void {
    for (const read of this.host.raft.takeLogReads()) void this.#read(read);
    for (const send of this.host.raft.takeSnapshotSends()) {
      this.options.transferBegun(send.to);
      this.#sendQueue.send(send);
    }
    if (this.#sendQueue.keeps) this.#letGo();
    if (this.host.raft.hasUntoldCommit) this.#callOffNotice ??= this.#noticeLater();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#callOffNotice?.();
    await this.#sendQueue.stop();
    await this.#transport?.close();
  }

  /**
   * Releases snapshots that were retained for interrupted transfers and are no longer needed: only
   * a leader resumes transfers, and only to followers that have not caught up in another way.
   */
  #letGo(): void {
    const { role, progress } = this.host.raft;
    const needing = role === "leader" ? progress.filter(({ state }) => state === "snapshot").map(({ key }) => key) : [];
    this.#sendQueue.letGo((to) => needing.includes(to));
  }

  /** Tells the followers of a commit after a moment, unless the next entries do it sooner. */
  #noticeLater(): () => void {
    return this.options.clock.after(limits.commitNoticeMs, () => {
      this.#callOffNotice = undefined;
      this.host.core((raft) => raft.announceCommit());
      this.host.wake();
    });
  }

  #peer(key: string): Peer | undefined {
    return this.#addresses.get(key);
  }

  #events(): TransportEvents {
    return {
      answer: (answer) => {
        if (this.#stopped) return;
        const rejection = answer.type === "append_entries_answer" ? answer.rejection : undefined;
        if (rejection?.reason === "safety") this.options.protocol.refusedBy(nameOf(answer.from), rejection.detail);
        this.host.core((raft) => raft.receive(answer));
        this.host.wake();
      },
      unreachable: (peer) => {
        if (this.#stopped) return;
        this.host.core((raft) => raft.unreachable(peer));
        this.host.wake();
      },
    };
  }

  /**
   * Returns the snapshots that the log continues from, newest first. There are none if a newer one
   * turned out to be damaged: then this takes another one.
   */
  async #snapshotsToSend(snapshots: SnapshotStore): Promise<readonly SnapshotInfo[]> {
    const fitting = snapshots.list().filter(({ index }) => index >= this.host.raft.log.boundary.index);
    if (fitting.length > 0) return fitting;
    const taken = await this.options.takeSnapshot();
    return taken === undefined ? [] : [taken];
  }

  async #read(read: LogRead): Promise<void> {
    try {
      const entries = await this.log.entries(read.first, read.last, read.maxBytes).catch(noneWhenTrimmed);
      if (this.#stopped) return;
      this.host.core((raft) => raft.entriesRead(read, entries));
      this.host.wake();
    } catch (error) {
      // A node whose log cannot be read must not lead.
      if (!this.#stopped) this.host.fail(error);
    }
  }

  #transferEnded(send: SnapshotSend, outcome: TransferOutcome): void {
    if (this.#stopped) return;
    this.host.core((raft) => raft.snapshotSent(send, outcome));
    this.options.transferEnded(send.to, outcome);
    this.host.wake();
  }
}

function noneWhenTrimmed(error: unknown): [] {
  if (hasCode(error, "OUT_OF_RANGE")) return [];
  throw error;
}
