import { nameOf } from "../../base/ids.js";
import type { SnapshotSend, TransferOutcome } from "../../raft/leader/replication.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import { TransferSender, type TransferSenderOptions } from "./sender.js";

/** Options of the queue of snapshots to send, which limits how many go out at a time. */
export interface SendQueueOptions extends TransferSenderOptions {
  /** Milliseconds for which the snapshot of an interrupted transfer is retained. */
  readonly resumeMs: number;
  /** Number of concurrent transfers, 1 or more. */
  readonly atOnce: number;
  /** Called when a transfer has ended. */
  ended(send: SnapshotSend, outcome: TransferOutcome): void;
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

/** A snapshot that is retained because its transfer was interrupted. */
interface Kept {
  readonly index: number;
  readonly release: () => void;
}

/**
 * Sends snapshots to followers: at most one to each, and a limited number at a time, in the order
 * of the requests.
 */
export class SendQueue {
  /** Transfers by receiver, including those that wait for their turn. */
  readonly #transfers = new Map<string, TransferSender>();
  /**
   * Transfers that have begun, until all their work has ended, even if others have taken their
   * place.
   */
  readonly #running = new Set<TransferSender>();
  /** Retained snapshots by receiver. */
  readonly #kept = new Map<string, Kept>();
  #stopped = false;

  constructor(private readonly options: SendQueueOptions) {}

  /** Sends a snapshot. It replaces a transfer to the same receiver that is under way. */
  send(send: SnapshotSend): void {
    if (this.#stopped) return;
    this.#transfers.get(send.to)?.cancel();
    // Requeue at the end, behind the transfers that wait already.
    this.#transfers.delete(send.to);
    const transfer = new TransferSender(send, this.options, ({ index }) => {
      const kept = this.#kept.get(send.to);
      if (kept?.index !== index) kept?.release();
    });
    this.#transfers.set(send.to, transfer);
    this.#beginNext();
  }

  /** Lists the transfers. One that waits for its turn shows the snapshot that it would send now. */
  list(): OutgoingTransfer[] {
    return [...this.#transfers.values()].flatMap((transfer) => {
      const { state } = transfer;
      return state === undefined ? [] : { ...state, cancel: () => this.#cancel(transfer) };
    });
  }

  /**
   * Lowest index behind which receivers need the log; undefined when no transfer is under way or
   * likely to resume soon.
   */
  get pinnedIndex(): number | undefined {
    const sending = [...this.#transfers.values()].flatMap(({ pinnedIndex }) => pinnedIndex ?? []);
    const indexes = [...sending, ...[...this.#kept.values()].map(({ index }) => index)];
    return indexes.length === 0 ? undefined : Math.min(...indexes);
  }

  /** Releases the snapshots retained for receivers that no longer need them. */
  letGo(isNeeded: (to: string) => boolean): void {
    for (const [to, { release }] of this.#kept) if (!isNeeded(to)) release();
  }

  /** Whether a snapshot is retained for an interrupted transfer. */
  get keeps(): boolean {
    return this.#kept.size > 0;
  }

  /** Ends all transfers, and waits until none reads from disk. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const transfer of this.#transfers.values()) transfer.cancel();
    for (const { release } of this.#kept.values()) release();
    await Promise.all([...this.#running].map((transfer) => transfer.settled));
  }

  #cancel(transfer: TransferSender): void {
    this.options.logger.info({ to: nameOf(transfer.send.to) }, "the sending of a snapshot is ended on request");
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
      this.#ended(transfer, outcome);
      this.#beginNext();
    });
  }

  #ended(transfer: TransferSender, outcome: TransferOutcome): void {
    const { send, interrupted } = transfer;
    // If another transfer has taken its place, the end of this one says nothing about that one.
    if (this.#transfers.get(send.to) !== transfer) return;
    this.#transfers.delete(send.to);
    if (this.#stopped) return;
    if (outcome.kind !== "failed") this.#kept.get(send.to)?.release();
    else if (interrupted !== undefined) this.#keep(send.to, interrupted);
    this.options.ended(send, outcome);
  }

  /**
   * Retains the snapshot of an interrupted transfer, so that the next transfer to the same receiver
   * can resume.
   */
  #keep(to: string, info: SnapshotInfo): void {
    const { snapshots, clock, resumeMs } = this.options;
    this.#kept.get(to)?.release();
    if (!snapshots.list().includes(info)) return;
    const unpin = snapshots.pin(info);
    const release = () => {
      callOff();
      unpin();
      this.#kept.delete(to);
    };
    const callOff = clock.after(resumeMs, release);
    this.#kept.set(to, { index: info.index, release });
  }
}
