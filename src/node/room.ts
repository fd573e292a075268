import { CairnError } from "../errors.js";
import type { Clock } from "./clock.js";

const RETRY_MS = 250;

/**
 * Does what a full disk may refuse. A full disk is not the end of a node: it stops taking writes, goes on answering reads, and resumes
 * by itself when there is room again (DESIGN section 5).
 */
export class RoomKeeper {
  #full = false;
  #stopped = false;
  #wake: (() => void) | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly onChange: (full: boolean, error: CairnError | undefined) => void,
  ) {}

  /** Whether the disk was full when it was last tried. */
  get isFull(): boolean {
    return this.#full;
  }

  /** Does `work`, again and again while the disk is full. Rejects with STOPPED when the node stops while it waits. */
  async untilRoom<Result>(work: () => Result | Promise<Result>): Promise<Result> {
    for (;;) {
      try {
        const result = await work();
        this.#setFull(false);
        return result;
      } catch (error) {
        if (!(error instanceof CairnError) || error.code !== "DISK_FULL") throw error;
        this.#setFull(true, error);
      }
      if (this.#stopped) throw new CairnError("STOPPED", "the node stopped while it waited for room on the disk");
      await this.#pause();
    }
  }

  /** Ends the waiting. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.clock.after(RETRY_MS, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }

  #setFull(full: boolean, error?: CairnError): void {
    if (full === this.#full) return;
    this.#full = full;
    this.onChange(full, error);
  }
}
