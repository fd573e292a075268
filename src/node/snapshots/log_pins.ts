import type { NodeHost } from "../host.js";
import type { OutgoingTransfer } from "./send_queue.js";

/**
 * Log entries retained for followers that are catching up by snapshot: the entries behind that
 * snapshot. They are retained from the beginning of the transfer until the follower has caught up
 * with the newest snapshot (entries behind that one are not trimmed anyway), or stops answering.
 */
export class LogPins {
  /** The index behind which the log is retained, by follower. */
  readonly #pins = new Map<string, number>();
  /** The result of the last call of `pinnedByTransfers`. */
  #pinnedByTransfers: number | undefined;

  constructor(
    private readonly host: NodeHost,
    private readonly transfers: () => readonly OutgoingTransfer[],
    /**
     * Lowest index behind which the log is needed for snapshots that are on offer, or retained for
     * an interrupted transfer.
     */
    private readonly pinnedByTransfers: () => number | undefined,
    /** Called when some retained log is no longer needed. */
    private readonly released: () => void,
  ) {}

  /** Lowest index behind which the log is needed; undefined when nobody needs it. */
  get pinnedIndex(): number | undefined {
    this.#followTransfers();
    this.#pinnedByTransfers = this.pinnedByTransfers();
    const indexes = [
      ...this.#pins.values(),
      ...(this.#pinnedByTransfers === undefined ? [] : [this.#pinnedByTransfers]),
    ];
    return indexes.length === 0 ? undefined : Math.min(...indexes);
  }

  /** Moves a follower's pin to `matchIndex`: a snapshot has brought its log up to there. */
  installed(to: string, matchIndex: number): void {
    this.#pins.set(to, matchIndex);
  }

  /** Releases the pins that nobody needs. Call this on each tick, and after a transfer. */
  look(): void {
    const running = this.#followTransfers();
    const before = this.#pinnedByTransfers;
    this.#pinnedByTransfers = this.pinnedByTransfers();
    let isReleased =
      before !== undefined && (this.#pinnedByTransfers === undefined || this.#pinnedByTransfers > before);
    for (const id of [...this.#pins.keys()]) {
      if (running.has(id) || this.#isComing(id)) continue;
      this.#pins.delete(id);
      isReleased = true;
    }
    if (isReleased) this.released();
  }

  #followTransfers(): ReadonlySet<string> {
    const running = this.transfers();
    for (const { to, index } of running) this.#pins.set(to, index);
    return new Set(running.map(({ to }) => to));
  }

  #isComing(id: string): boolean {
    const { raft } = this.host;
    const progress = raft.progress.find((member) => member.key === id);
    if (progress === undefined || !progress.isActive) return false;
    this.#pins.set(id, Math.max(this.#pins.get(id)!, progress.match));
    return progress.match < (raft.snapshot?.index ?? 0);
  }
}
