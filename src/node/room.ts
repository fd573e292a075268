import { CairnError, hasCode } from "../errors.js";
import type { Clock } from "./clock.js";

const RETRY_MS = 250;

/**
 * Does what a full disk may refuse. A full disk is not the end of a node: it stops taking writes, goes on answering reads, and resumes
 * by itself when there is room again (DESIGN section 5).
 */
export class RoomKeeper {
  /** Pieces of work that a full disk has refused and that were not done since. The log and the state can both be among them. */
  #refused = 0;
  #stopped = false;
  /** Ends of the pauses that are under way. */
  readonly #pauses = new Set<() => void>();

  constructor(
    private readonly clock: Clock,
    private readonly onChange: (full: boolean, error: CairnError | undefined) => void,
  ) {}

  /** Whether something waits for room on the disk. */
  get isFull(): boolean {
    return this.#refused > 0;
  }

  /** Does `work`, again and again while the disk is full. Rejects with STOPPED when the node stops while it waits. */
  async untilRoom<Result>(work: () => Result | Promise<Result>): Promise<Result> {
    let wasRefused = false;
    for (;;) {
      try {
        const result = await work();
        if (wasRefused) this.#done();
        return result;
      } catch (error) {
        if (!hasCode(error, "DISK_FULL")) throw error;
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
    if (this.#refused === 1) this.onChange(true, error);
  }

  #done(): void {
    this.#refused -= 1;
    if (this.#refused === 0) this.onChange(false, undefined);
  }
}
