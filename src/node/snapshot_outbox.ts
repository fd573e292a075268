import type { SnapshotOutcome, SnapshotSend } from "../core/replication.js";
import type { SnapshotInfo } from "../storage/snapshots/snapshot_info.js";
import { OutgoingSnapshot, type OutgoingSnapshotOptions } from "./outgoing_snapshot.js";

export interface SnapshotOutboxOptions extends OutgoingSnapshotOptions {
  /** The snapshot of a transfer that was interrupted is kept for so long, in milliseconds. */
  readonly resumeMs: number;
  /** A transfer has ended. */
  ended(send: SnapshotSend, outcome: SnapshotOutcome): void;
}

/** A snapshot on its way to a peer. */
export interface OutgoingTransfer {
  readonly to: string;
  readonly index: number;
  readonly totalBytes: number;
  /** Bytes that the peer has, as it has told. */
  readonly doneBytes: number;
  /** How many of them it had when the transfer began. */
  readonly resumedBytes: number;
  /** How many it got in a second, since the transfer began; 0 at the very beginning. */
  readonly bytesPerSecond: number;
}

/** A snapshot that is kept because its transfer was interrupted. */
interface Kept {
  readonly index: number;
  readonly release: () => void;
}

/** Sends snapshots to followers, at most one to each. */
export class SnapshotOutbox {
  readonly #transfers = new Map<string, OutgoingSnapshot>();
  /** By receiver. */
  readonly #kept = new Map<string, Kept>();
  #stopped = false;

  constructor(private readonly options: SnapshotOutboxOptions) {}

  /** Sends a snapshot, in place of one that is on its way there. */
  send(send: SnapshotSend): void {
    if (this.#stopped) return;
    this.#transfers.get(send.to)?.cancel();
    const transfer = new OutgoingSnapshot(send, this.options);
    this.#transfers.set(send.to, transfer);
    void transfer.run().then((outcome) => {
      // The end of one that another has taken the place of says nothing about that one.
      if (this.#transfers.get(send.to) !== transfer) return;
      this.#transfers.delete(send.to);
      if (this.#stopped) return;
      if (outcome.kind !== "failed") this.#kept.get(send.to)?.release();
      else if (transfer.interrupted !== undefined) this.#keep(send.to, transfer.interrupted);
      this.options.ended(send, outcome);
    });
  }

  list(): OutgoingTransfer[] {
    return [...this.#transfers.values()].flatMap((transfer) => transfer.state ?? []);
  }

  /** Receivers need the log from behind this index on; undefined when nothing is on its way, nor likely to be again soon. */
  get lowestIndex(): number | undefined {
    const sending = [...this.#transfers.values()].flatMap(({ lowestIndex }) => lowestIndex ?? []);
    const indexes = [...sending, ...[...this.#kept.values()].map(({ index }) => index)];
    return indexes.length === 0 ? undefined : Math.min(...indexes);
  }

  /** Ends all transfers, and waits until nothing is read any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const transfers = [...this.#transfers.values()];
    for (const transfer of transfers) transfer.cancel();
    for (const { release } of this.#kept.values()) release();
    await Promise.all(transfers.map((transfer) => transfer.settled));
  }

  /** Keeps the snapshot of an interrupted transfer for the next one to the same receiver, which may go on where this one has ended. */
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
