import { CairnError, isShortage } from "../base/errors.js";
import type { Clock } from "../system/clock.js";

const RETRY_MS = 250;

/**
 * Does what a full disk, or a process with too many open files, may refuse. That is not the end of
 * a node: it stops taking writes, goes on answering reads, and resumes by itself when there is room
 * again.
 */
export class RoomKeeper {
  /**
   * Pieces of work that were refused and not done since. The log and the state can both be among
   * them.
   */
  #refused = 0;
  /** Why the first of them was refused. */
  #cause: CairnError | undefined;
  #stopped = false;
  /** Ends of the pauses that are under way. */
  readonly #pauses = new Set<() => void>();

  constructor(
    private readonly clock: Clock,
    private readonly onChange: (shortage: CairnError | undefined) => void,
  ) {}

  /** Why something waits for room on the disk, or for descriptors; undefined when nothing does. */
  get shortage(): CairnError | undefined {
    return this.#cause;
  }

  /**
   * Does `work`, again and again while it is refused. Rejects with STOPPED when the node stops
   * while it waits.
   */
  async untilRoom<Result>(work: () => Result | Promise<Result>): Promise<Result> {
    let wasRefused = false;
    for (;;) {
      try {
        const result = await work();
        if (wasRefused) this.#done();
        return result;
      } catch (error) {
        if (!isShortage(error)) throw error;
        if (!wasRefused) this.#refuse(error);
        wasRefused = true;
      }
      if (!this.#stopped) await this.#pause();
      if (this.#stopped) throw new CairnError("STOPPED", "the node stopped while it waited for room on the disk");
    }
  }

  /** Ends the waiting. */
  stop(): void {
    this.#stopped = true;
    for (const end of [...this.#pauses]) end();
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        cancel();
        this.#pauses.delete(end);
        resolve();
      };
      const cancel = this.clock.after(RETRY_MS, end);
      this.#pauses.add(end);
    });
  }

  #refuse(error: CairnError): void {
    this.#refused += 1;
    if (this.#refused > 1) return;
    this.#cause = error;
    this.onChange(error);
  }

  #done(): void {
    this.#refused -= 1;
    if (this.#refused > 0) return;
    this.#cause = undefined;
    this.onChange(undefined);
  }
}
