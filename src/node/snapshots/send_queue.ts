import { nameOf } from "../../base/ids.js";
import type { SnapshotOutcome, SnapshotSend } from "../../raft/leader/replication.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import { OutgoingSnapshot, type OutgoingSnapshotOptions } from "./sender.js";

export interface SnapshotOutboxOptions extends OutgoingSnapshotOptions {
  /** The snapshot of a transfer that was interrupted is kept for so long, in milliseconds. */
  readonly resumeMs: number;
  /** So many are sent at a time, 1 or more. */
  readonly atOnce: number;
  /** A transfer has ended. */
  ended(send: SnapshotSend, outcome: SnapshotOutcome): void;
}

/** A snapshot on its way to a peer. */
export interface OutgoingTransfer {
  /** Member key of the receiver (see ids.ts). */
  readonly to: string;
  readonly index: number;
  readonly totalBytes: number;
  /** Bytes that the peer has, as it has told. */
  readonly doneBytes: number;
  /** How many of them it had when the transfer began. */
  readonly resumedBytes: number;
  /** How many it got in a second, since the transfer began; 0 at the very beginning. */
  readonly bytesPerSecond: number;
  /** Ends it; the leader tries again later. Does nothing when it has ended. */
  cancel(): void;
}

/** A snapshot that is kept because its transfer was interrupted. */
interface Kept {
  readonly index: number;
  readonly release: () => void;
}

/**
 * Sends snapshots to followers, at most one to each, and few at a time; who asked first comes
 * first.
 */
export class SnapshotOutbox {
  /** By receiver, also those that wait for their turn. */
  readonly #transfers = new Map<string, OutgoingSnapshot>();
  /**
   * Those that have begun, until nothing is under way any more, although others have taken their
   * place.
   */
  readonly #running = new Set<OutgoingSnapshot>();
  /** By receiver. */
  readonly #kept = new Map<string, Kept>();
  #stopped = false;

  constructor(private readonly options: SnapshotOutboxOptions) {}

  /** Sends a snapshot, in place of one that is on its way there. */
  send(send: SnapshotSend): void {
    if (this.#stopped) return;
    this.#transfers.get(send.to)?.cancel();
    // Behind those that wait already.
    this.#transfers.delete(send.to);
    const transfer = new OutgoingSnapshot(send, this.options, ({ index }) => {
      const kept = this.#kept.get(send.to);
      if (kept?.index !== index) kept?.release();
    });
    this.#transfers.set(send.to, transfer);
    this.#beginNext();
  }

  /** Of one that waits for its turn: what would be sent now. */
  list(): OutgoingTransfer[] {
    return [...this.#transfers.values()].flatMap((transfer) => {
      const { state } = transfer;
      return state === undefined ? [] : { ...state, cancel: () => this.#cancel(transfer) };
    });
  }

  /**
   * Receivers need the log from behind this index on; undefined when nothing is on its way, nor
   * likely to be again soon.
   */
  get lowestIndex(): number | undefined {
    const sending = [...this.#transfers.values()].flatMap(({ lowestIndex }) => lowestIndex ?? []);
    const indexes = [...sending, ...[...this.#kept.values()].map(({ index }) => index)];
    return indexes.length === 0 ? undefined : Math.min(...indexes);
  }

  /** Lets go of what is kept for receivers that do not need it any more. */
  letGo(isNeeded: (to: string) => boolean): void {
    for (const [to, { release }] of this.#kept) if (!isNeeded(to)) release();
  }

  /** Whether anything is kept for a transfer that was interrupted. */
  get keeps(): boolean {
    return this.#kept.size > 0;
  }

  /** Ends all transfers, and waits until nothing is read any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const transfer of this.#transfers.values()) transfer.cancel();
    for (const { release } of this.#kept.values()) release();
    await Promise.all([...this.#running].map((transfer) => transfer.settled));
  }

  #cancel(transfer: OutgoingSnapshot): void {
    this.options.logger.info({ to: nameOf(transfer.send.to) }, "the sending of a snapshot is ended on request");
    transfer.cancel();
    // The others say by themselves that they have ended.
    if (!this.#running.has(transfer)) this.#ended(transfer, { kind: "failed" });
  }

  #beginNext(): void {
    for (const transfer of this.#transfers.values()) {
      if (this.#stopped || this.#running.size >= this.options.atOnce) return;
      if (!this.#running.has(transfer)) this.#begin(transfer);
    }
  }

  #begin(transfer: OutgoingSnapshot): void {
    this.#running.add(transfer);
    void transfer.run().then((outcome) => {
      this.#running.delete(transfer);
      this.#ended(transfer, outcome);
      this.#beginNext();
    });
  }

  #ended(transfer: OutgoingSnapshot, outcome: SnapshotOutcome): void {
    const { send, interrupted } = transfer;
    // The end of one that another has taken the place of says nothing about that one.
    if (this.#transfers.get(send.to) !== transfer) return;
    this.#transfers.delete(send.to);
    if (this.#stopped) return;
    if (outcome.kind !== "failed") this.#kept.get(send.to)?.release();
    else if (interrupted !== undefined) this.#keep(send.to, interrupted);
    this.options.ended(send, outcome);
  }

  /**
   * Keeps the snapshot of an interrupted transfer for the next one to the same receiver, which may
   * go on where this one has ended.
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
