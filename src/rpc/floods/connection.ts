import type { ServerHttp2Session } from "node:http2";
import { limits } from "../../base/limits.js";
import { type LimitName, limitRefusals } from "../../base/telemetry/refusals.js";
import type { BudgetShare } from "./request_budget.js";

/**
 * The part that a connection plays. `late`: it came above the limit, and may still turn out to be a
 * peer's.
 */
export type ConnectionKind = "client" | "peer" | "late";

/** A connection as its server sees it: its part, and what it holds. */
export class Connection {
  readonly clientShare: BudgetShare = { bytes: 0 };
  readonly peerShare: BudgetShare = { bytes: 0 };
  /** The other end has acknowledged the server's settings: it must keep to them from now on. */
  hasAcknowledged = false;
  /** Bytes of headers that came before that. */
  headerBytes = 0;
  hasCalled = false;
  /** Calls and streams under way. */
  streams = 0;
  /** When the last call ended, or the connection was opened. */
  idleSince: number;
  /** Bytes of answers that the network has not taken. */
  unsent = 0;
  /** Streams that were ended because nobody read them. */
  cutOff = 0;
  /** Calls with headers that were too large. */
  largeHeaders = 0;
  /** PING and SETTINGS frames, less those that time has allowed for. */
  controlFrames = 0;
  #isWide = false;
  #isEnding = false;

  constructor(
    readonly session: ServerHttp2Session,
    readonly address: string,
    public kind: ConnectionKind,
    readonly openedAt: number,
  ) {
    this.idleSince = openedAt;
  }

  /** Whether there has been no call for this long. */
  isIdle(now: number, idleMs: number): boolean {
    return this.streams === 0 && now - this.idleSince > idleMs;
  }

  /** Lets the other end have more bytes of each stream on their way, as snapshots need. */
  widen(): void {
    if (this.#isWide) return;
    this.#isWide = true;
    this.session.settings({ initialWindowSize: limits.serverWindowBytes });
  }

  /** Whether {@link destroy} was called. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** Closes the connection once the calls under way have ended. */
  close(): void {
    if (!this.session.closed) this.session.close();
  }

  /** Ends the connection because of a limit. */
  end(limit: LimitName): void {
    if (!this.#isEnding) limitRefusals.add(limit);
    this.destroy();
  }

  /**
   * Ends the connection with all its calls, in the next turn of the event loop: Node aborts the
   * process when a session is destroyed while it reads a frame.
   */
  destroy(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    setImmediate(() => {
      if (!this.session.destroyed) this.session.destroy();
    });
  }
}
