import type { RaftView } from "../views.js";
import type { OutgoingTransfer, SendQueue } from "./send_queue.js";

/** Transfers that need log: see {@link SendQueue}. */
type PinningTransfers = Pick<SendQueue, "list" | "offered">;

/**
 * Log entries retained for followers that are catching up by snapshot: the entries behind that
 * snapshot. They are retained from the beginning of the transfer until the follower has caught up
 * with the newest snapshot (entries behind that one are not trimmed anyway), or stops answering.
 */
export class LogPins {
  /** The index behind which the log is retained, by follower. */
  readonly #pins = new Map<string, number>();
  #transfers: PinningTransfers = { list: (): OutgoingTransfer[] => [], offered: [] };
  /** Lowest index on offer when this was asked last. */
  #lowestOffered: number | undefined;

  constructor(
    private readonly raft: Pick<RaftView, "progress" | "snapshot">,
    /** Called when some retained log is no longer needed. */
    private readonly released: () => void,
  ) {}

  /**
   * Sets the transfers that pin log. They report their ends here, so they are made after this
   * object.
   */
  connect(transfers: PinningTransfers): void {
    this.#transfers = transfers;
  }

  /** Lowest index behind which followers need the log; undefined when nobody needs it. */
  get pinnedIndex(): number | undefined {
    this.#followTransfers();
    return lowestOf([...this.#pins.values(), ...this.#transfers.offered]);
  }

  /** Moves a follower's pin to `matchIndex`: a snapshot has brought its log up to there. */
  installed(to: string, matchIndex: number): void {
    this.#pins.set(to, matchIndex);
  }

  /** Releases the pins that nobody needs. Call this on each tick, and after a transfer. */
  look(): void {
    const before = this.#lowestOffered;
    const running = this.#followTransfers();
    const lowest = this.#lowestOffered;
    let isReleased = before !== undefined && (lowest === undefined || lowest > before);
    for (const id of [...this.#pins.keys()]) {
      if (running.has(id) || this.#isComing(id)) continue;
      this.#pins.delete(id);
      isReleased = true;
    }
    if (isReleased) this.released();
  }

  #followTransfers(): ReadonlySet<string> {
    const running = this.#transfers.list();
    for (const { to, index } of running) this.#pins.set(to, index);
    this.#lowestOffered = lowestOf(this.#transfers.offered);
    return new Set(running.map(({ to }) => to));
  }

  #isComing(id: string): boolean {
    const progress = this.raft.progress.find((member) => member.key === id);
    if (progress === undefined || !progress.isActive) return false;
    this.#pins.set(id, Math.max(this.#pins.get(id)!, progress.match));
    return progress.match < (this.raft.snapshot?.index ?? 0);
  }
}

function lowestOf(indexes: readonly number[]): number | undefined {
  return indexes.length === 0 ? undefined : Math.min(...indexes);
}
