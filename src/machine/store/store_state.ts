import type { LogPosition } from "../../raft/types.js";
import type { StoreEngine, StoreView } from "../../store/reads.js";
import type { SessionLimits } from "../kv/session_limits.js";
import { SessionTable } from "../kv/sessions.js";
import { WAITING_ROW_BYTES } from "./keyspaces.js";
import type { WaitingRows } from "./payload_source.js";
import { StoreLeases } from "./store_leases.js";
import { StoreRecords } from "./store_records.js";
import { StoreSessions } from "./store_sessions.js";

/** A state in an open store: its keys, leases and sessions. */
export class StoreState {
  readonly records: StoreRecords;
  readonly leases: StoreLeases;
  readonly sessions: SessionTable;
  readonly #stored: StoreSessions;
  #views = 0;
  #idle: (() => void) | undefined;

  /** Reads leases and sessions. @throws CairnError CORRUPT */
  constructor(
    readonly name: string,
    readonly engine: StoreEngine,
    bounds: SessionLimits,
  ) {
    this.leases = new StoreLeases(engine);
    this.#stored = new StoreSessions(engine);
    const stored = this.#stored.load();
    this.sessions = new SessionTable(this.#stored, bounds, stored);
    this.records = new StoreRecords(engine, Math.max(0, engine.recordsAbout - this.sessions.size - this.leases.count));
  }

  /** Begins the changes of an entry. */
  begin(index: number): void {
    this.records.begin(index);
    this.leases.begin(index);
    this.#stored.begin(index);
  }

  /** Whether the entry just applied is a flush point: a function of the log. */
  get isDue(): boolean {
    if (this.engine.isDue) return true;
    const waiting = this.leases.waitingBytes + this.sessions.changedCount * WAITING_ROW_BYTES;
    return waiting > 0 && this.engine.charge + waiting >= this.engine.flushBytes;
  }

  /** Makes the entry just applied a flush point. */
  freeze(position: LogPosition, drain: boolean): void {
    this.sessions.flush();
    this.leases.flush();
    this.engine.freeze(position, this.#stored.note, drain);
  }

  /** Returns the key of the row of a remembered answer, for the caller to keep. */
  answerKey(clientId: string, sequence: number): Uint8Array {
    return this.#stored.answerKey(clientId, sequence);
  }

  /** Captures the rows. The store stays open until the view is released by {@link release}. */
  capture(position: LogPosition): StoreView {
    const view = this.engine.capture(position);
    this.#views++;
    return view;
  }

  /** Returns what the rows lack, as it is now. */
  waiting(): WaitingRows {
    const sessions = this.sessions.changedHeads().map((head) => {
      return { ...head, birth: this.#stored.birthOf(head.clientId) };
    });
    return { head: this.sessions.head, leases: this.leases.changed(), sessions };
  }

  release(view: StoreView): void {
    view.release();
    this.#views--;
    if (this.#views === 0) this.#idle?.();
  }

  /** Waits until all views are released. */
  async idle(): Promise<void> {
    if (this.#views > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
  }
}
