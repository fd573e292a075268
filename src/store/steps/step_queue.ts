import { CairnError, hasCode, isShortage } from "../../base/errors.js";
import type { LogPosition } from "../../raft/types.js";
import type { Clock } from "../../system/clock.js";
import type { Logger } from "../../system/logger.js";
import type { Manifest } from "../levels/manifest.js";
import type { MemoryTable } from "../memory/memory_table.js";
import type { StepRunner } from "./runner.js";
import type { StepOutcome } from "./step.js";

/** Pause after a step that found no room or no descriptor, in milliseconds. */
const SHORTAGE_PAUSE_MS = 500;

/** Writers pause when a step lags behind by this share of a table, and for so many milliseconds. */
const PAUSE_LAG = 1 / 4;
const PAUSE_MS = 2;

/** Attempts at one step that may end for no known reason. */
const MOST_ATTEMPTS = 3;

/** A table that is closed at a flush point, and waits to be written. */
export interface FrozenTable {
  readonly memory: MemoryTable;
  readonly position: LogPosition;
  readonly note: Uint8Array;
  readonly drain: boolean;
}

/** The store, as the queue sees it. */
export interface StepOwner {
  /** The newest manifest. */
  readonly manifest: Manifest;
  readonly findsCreated: boolean;
  /** Puts a step's manifest in force. */
  publish(frozen: FrozenTable, result: StepOutcome): Promise<void>;
  /** No step can be carried out any more. */
  fail(error: Error): void;
}

/** Writes frozen tables one after the other, each by a step. */
export class StepQueue {
  /** Oldest first. */
  readonly #frozen: FrozenTable[] = [];
  #working: Promise<void> | undefined;
  #waiters: { readonly most: number; resolve(): void; reject(error: Error): void }[] = [];
  #failure: Error | undefined;
  /** No room for the step under way, which is tried again. */
  #shortage: Error | undefined;
  #isClosed = false;
  #wake: () => void = () => {};

  constructor(
    private readonly owner: StepOwner,
    private readonly runner: StepRunner,
    private readonly clock: Clock,
    private readonly logger: Logger,
  ) {}

  /** The tables that are not written yet, newest first. */
  get frozen(): readonly FrozenTable[] {
    return this.#frozen.toReversed();
  }

  get length(): number {
    return this.#frozen.length;
  }

  add(frozen: FrozenTable): void {
    this.#frozen.push(frozen);
    this.runner.hurry(this.#frozen.length > 1);
    this.#working ??= this.#work();
  }

  /**
   * Waits until at most `most` tables are left; undefined when there is nothing to wait for. Does
   * not wait for room. @throws CairnError DISK_FULL, BUSY when the step under way has none
   */
  settled(most: number): Promise<void> | undefined {
    if (this.#frozen.length <= most) return undefined;
    const ended = this.#failure ?? (this.#isClosed ? closed() : this.#shortage);
    if (ended !== undefined) return Promise.reject(ended);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ most, resolve, reject });
    });
  }

  /**
   * Waits a moment while the next table fills faster than the step under way proceeds: many short
   * pauses are better than a long one. `filled`: share of the table in memory. Undefined: no need.
   */
  pause(filled: number): Promise<void> | undefined {
    if (this.#frozen.length === 0 || this.#isClosed) return undefined;
    const lag = filled - this.runner.progress;
    this.runner.hurry(this.#frozen.length > 1 || lag > 0);
    if (lag < PAUSE_LAG) return undefined;
    return new Promise((resolve) => void this.clock.after(PAUSE_MS, resolve));
  }

  /** Begins no further step. Waits for the one under way, unless this is as in a crash. */
  async close(isCrash: boolean): Promise<void> {
    this.#isClosed = true;
    this.#wake();
    this.#rejectAll(closed());
    if (!isCrash) await this.#working;
    await this.runner.close();
  }

  async #work(): Promise<void> {
    try {
      for (let frozen = this.#frozen[0]; frozen !== undefined && !this.#isClosed; frozen = this.#frozen[0]) {
        if (!(await this.#step(frozen))) return;
        this.#frozen.shift();
        this.runner.hurry(this.#frozen.length > 1);
        this.#tell();
      }
    } catch (error) {
      this.#fail(CairnError.from(error));
    } finally {
      this.#working = undefined;
    }
  }

  /** Carries a step out, and publishes its outcome; false when the store was closed meanwhile. */
  async #step(frozen: FrozenTable): Promise<boolean> {
    const { memory, position, note, drain } = frozen;
    const { manifest, findsCreated } = this.owner;
    let outcome: StepOutcome | undefined;
    for (let attempt = 1; ; ) {
      try {
        outcome ??= await this.runner.run({ manifest, table: memory.share(), position, note, drain, findsCreated });
        if (this.#isClosed) return false;
        await this.owner.publish(frozen, outcome);
        this.#shortage = undefined;
        return !this.#isClosed;
      } catch (error) {
        if (this.#isClosed) return false;
        if (isShortage(error)) {
          this.logger.warn({ err: error, index: position.index }, "no room to write the state's table: trying again");
          // Callers that wait report it, and ask again.
          this.#shortage = error;
          this.#rejectAll(error);
          await this.#pause();
          if (this.#isClosed) return false;
          continue;
        }
        const isFinal = hasCode(error, "CORRUPT") || hasCode(error, "STORAGE_FAILED");
        if (isFinal || attempt === MOST_ATTEMPTS) throw error;
        this.logger.error({ err: error, index: position.index }, "a step of the state's store failed: trying again");
        attempt += 1;
      }
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.clock.after(SHORTAGE_PAUSE_MS, resolve, true);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }

  #fail(error: Error): void {
    if (this.#isClosed) return;
    this.#failure = error;
    this.#rejectAll(error);
    this.owner.fail(error);
  }

  #tell(): void {
    const left = this.#frozen.length;
    const due = this.#waiters.filter(({ most }) => left <= most);
    this.#waiters = this.#waiters.filter(({ most }) => left > most);
    for (const waiter of due) waiter.resolve();
  }

  #rejectAll(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }
}

function closed(): CairnError {
  return new CairnError("CANCELLED", "the store is closed");
}
