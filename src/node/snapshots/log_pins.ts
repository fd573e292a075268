import type { NodeHost } from "../host.js";
import type { OutgoingTransfer } from "./send_queue.js";

/**
 * What of the log followers will need that are brought back by snapshot: what lies behind that
 * snapshot. It is kept from when the transfer begins until the follower has caught up with the
 * newest snapshot (what follows that one is not trimmed anyway), or does not answer any more.
 */
export class LogPins {
  /** The log behind this index, by follower. */
  readonly #pins = new Map<string, number>();
  /** As it was found last. */
  #wanted: number | undefined;

  constructor(
    private readonly host: NodeHost,
    private readonly transfers: () => readonly OutgoingTransfer[],
    /**
     * The log is needed from behind this index on for snapshots that are on offer, or kept for a
     * transfer that was interrupted.
     */
    private readonly wanted: () => number | undefined,
    /** Something that was kept need not be any more. */
    private readonly released: () => void,
  ) {}

  /** The log is needed from behind this index on; undefined when nobody needs it. */
  get lowest(): number | undefined {
    this.#followTransfers();
    this.#wanted = this.wanted();
    const indexes = [...this.#pins.values(), ...(this.#wanted === undefined ? [] : [this.#wanted])];
    return indexes.length === 0 ? undefined : Math.min(...indexes);
  }

  /** A snapshot has brought a follower's log up to `matchIndex`: it goes on from there. */
  installed(to: string, matchIndex: number): void {
    this.#pins.set(to, matchIndex);
  }

  /** Time has passed, or a transfer has ended: lets go of what nobody needs any more. */
  look(): void {
    const running = this.#followTransfers();
    const before = this.#wanted;
    this.#wanted = this.wanted();
    let isReleased = before !== undefined && (this.#wanted === undefined || this.#wanted > before);
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
