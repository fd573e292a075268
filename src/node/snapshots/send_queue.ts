import { nameOf } from "../../base/ids.js";
import type { SnapshotSend, TransferOutcome } from "../../raft/leader/replication.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import type { NodeHost } from "../host.js";
import type { NodeMeasures } from "../measures/node_measures.js";
import type { Peers } from "../peers.js";
import { KeptSnapshots } from "./kept_snapshots.js";
import type { LagMonitor } from "./lag_monitor.js";
import type { LogPins } from "./log_pins.js";
import { type TransferOptions, TransferSender } from "./sender.js";

/** Options of the queue of snapshots to send, which limits how many go out at a time. */
export interface SendQueueOptions extends TransferOptions {
  readonly peers: Pick<Peers, "openInstall">;
  readonly pins: Pick<LogPins, "installed" | "look">;
  readonly lagMonitor: Pick<LagMonitor, "begun" | "ended">;
  readonly measures: Pick<NodeMeasures, "transferred">;
  /** Milliseconds for which the snapshot of an interrupted transfer is retained. */
  readonly resumeMs: number;
  /** Number of concurrent transfers, 1 or more. */
  readonly atOnce: number;
  /** Takes a snapshot of the present state; undefined when there is nothing to take. */
  takeSnapshot(): Promise<SnapshotInfo | undefined>;
}

/** A snapshot on its way to a peer. */
export interface OutgoingTransfer {
  /** Member key of the receiver (see ids.ts). */
  readonly to: string;
  readonly index: number;
  readonly totalBytes: number;
  /** Bytes that the peer has, by its own report. */
  readonly doneBytes: number;
  /** Bytes of these that the peer had when the transfer began. */
  readonly resumedBytes: number;
  /** Average transfer rate since the beginning; 0 at the very beginning. */
  readonly bytesPerSecond: number;
  /** Ends the transfer; the leader retries later. Does nothing when the transfer has ended. */
  cancel(): void;
}

/**
 * Sends snapshots to followers: at most one to each, and a limited number at a time, in the order
 * of the requests. Tells the core, the log pins and the lag monitor how each transfer ended.
 */
export class SendQueue {
  /** Transfers by receiver, including those that wait for their turn. */
  readonly #transfers = new Map<string, TransferSender>();
  /**
   * Transfers that have begun, until all their work has ended, even if others have taken their
   * place.
   */
  readonly #running = new Set<TransferSender>();
  readonly #kept: KeptSnapshots;
  #stopped = false;

  constructor(
    private readonly host: NodeHost,
    private readonly options: SendQueueOptions,
  ) {
    this.#kept = new KeptSnapshots(options.snapshots, options.clock, options.resumeMs);
  }

  /**
   * Begins the transfers that the core wants, and releases the snapshots that were retained for
   * interrupted transfers and are no longer needed.
   */
  serve(): void {
    for (const send of this.host.core((raft) => raft.takeSnapshotSends())) this.send(send);
    if (this.#kept.indexes.length > 0) this.#letGo();
  }

  /** Sends a snapshot. It replaces a transfer to the same receiver that is under way. */
  send(send: SnapshotSend): void {
    if (this.#stopped) return;
    const { to } = send;
    this.options.lagMonitor.begun(to);
    this.#transfers.get(to)?.cancel();
    // Requeue at the end, behind the transfers that wait already.
    this.#transfers.delete(to);
    const transfer = new TransferSender(send, this.options, {
      from: this.host.key,
      membershipIndex: () => this.host.raft.membership.index,
      isWanted: () => this.#isWanted(send),
      choices: () => this.#choices(),
      open: () => this.options.peers.openInstall(to),
      accepted: ({ index }) => this.#kept.accepted(to, index),
    });
    this.#transfers.set(to, transfer);
    this.#beginNext();
  }

  /** Lists the transfers. One that waits for its turn shows the snapshot that it would send now. */
  list(): OutgoingTransfer[] {
    return [...this.#transfers.values()].flatMap((transfer) => {
      const { progress } = transfer;
      return progress === undefined ? [] : { ...progress, cancel: () => this.#cancel(transfer) };
    });
  }

  /**
   * Indexes of snapshots that receivers may choose: of each transfer under way the lowest, and
   * those that are retained for the next offer.
   */
  get offered(): readonly number[] {
    const lowest = [...this.#transfers.values()].flatMap(({ lowestOffered }) => lowestOffered ?? []);
    return [...lowest, ...this.#kept.indexes];
  }

  /** Ends all transfers, and waits until none reads from disk. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const transfer of this.#transfers.values()) transfer.cancel();
    this.#kept.releaseUnless(() => false);
    await Promise.all([...this.#running].map((transfer) => transfer.settled));
  }

  /** Only a leader resumes transfers, and only to followers that have not caught up otherwise. */
  #letGo(): void {
    const { role, progress } = this.host.raft;
    const needing = role === "leader" ? progress.filter(({ state }) => state === "snapshot").map(({ key }) => key) : [];
    this.#kept.releaseUnless((to) => needing.includes(to));
  }

  /** A snapshot may have waited long for its turn. */
  #isWanted({ term }: SnapshotSend): boolean {
    const { raft } = this.host;
    return raft.role === "leader" && raft.term === term;
  }

  /**
   * Returns the snapshots that the log continues from, newest first. There are none if a newer one
   * turned out to be damaged: then this takes another one.
   */
  async #choices(): Promise<readonly SnapshotInfo[]> {
    const { snapshots, takeSnapshot } = this.options;
    const fitting = snapshots.list().filter(({ index }) => index >= this.host.raft.log.boundary.index);
    if (fitting.length > 0) return fitting;
    const taken = await takeSnapshot();
    return taken === undefined ? [] : [taken];
  }

  #cancel(transfer: TransferSender): void {
    this.options.logger.info({ peer: nameOf(transfer.send.to) }, "the sending of a snapshot is ended on request");
    transfer.cancel();
    // Running transfers report their own end.
    if (!this.#running.has(transfer)) this.#ended(transfer, { kind: "failed" });
  }

  #beginNext(): void {
    for (const transfer of this.#transfers.values()) {
      if (this.#stopped || this.#running.size >= this.options.atOnce) return;
      if (!this.#running.has(transfer)) this.#begin(transfer);
    }
  }

  #begin(transfer: TransferSender): void {
    this.#running.add(transfer);
    void transfer.run().then((outcome) => {
      this.#running.delete(transfer);
      this.host.ending.attempt(() => this.#ended(transfer, outcome));
      this.#beginNext();
    });
  }

  #ended(transfer: TransferSender, outcome: TransferOutcome): void {
    const { send, interrupted } = transfer;
    // If another transfer has taken its place, the end of this one says nothing about that one.
    if (this.#transfers.get(send.to) !== transfer) return;
    this.#transfers.delete(send.to);
    if (this.#stopped) return;
    if (outcome.kind !== "failed") this.#kept.release(send.to);
    else if (interrupted !== undefined) this.#kept.keep(send.to, interrupted);
    this.#tell(send, outcome);
  }

  #tell(send: SnapshotSend, outcome: TransferOutcome): void {
    const { pins, lagMonitor, measures } = this.options;
    measures.transferred(send.to, outcome.kind);
    this.host.core((raft) => raft.snapshotSent(send, outcome));
    if (outcome.kind === "installed") pins.installed(send.to, outcome.matchIndex);
    lagMonitor.ended(send.to, this.#arrived(outcome), this.host.raft.log.boundary.index);
    pins.look();
    this.host.wake();
  }

  #arrived(outcome: TransferOutcome): { index: number; fileBytes: number } | undefined {
    if (outcome.kind !== "installed") return undefined;
    const info = this.options.snapshots.list().find(({ index }) => index === outcome.matchIndex);
    return { index: outcome.matchIndex, fileBytes: info?.fileBytes ?? 0 };
  }
}
