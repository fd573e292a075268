import { CairnError, isShortage } from "../base/errors.js";
import type { Clock } from "../system/clock.js";
import { outOfRoom } from "./requests/refusals.js";

const RETRY_MS = 250;

/**
 * Retries work that a full disk, or a process with too many open files, may refuse. A shortage does
 * not end a node: the node stops taking writes, keeps answering reads, and resumes automatically
 * once there is room.
 */
export class DiskFullRetry {
  /**
   * Number of pieces of work that were refused and are not done yet. The log and the state can both
   * be among them.
   */
  #refused = 0;
  /** The reason why the first of them was refused. */
  #cause: CairnError | undefined;
  #stopped = false;
  /** Functions that end the pauses that are under way. */
  readonly #pauses = new Set<() => void>();

  constructor(
    private readonly clock: Clock,
    private readonly onChange: (shortage: CairnError | undefined) => void,
  ) {}

  /**
   * The reason why work is waiting for room on the disk, or for file descriptors; undefined when
   * nothing waits.
   */
  get shortage(): CairnError | undefined {
    return this.#cause;
  }

  /**
   * Rejects a caller while there is no room.
   * @throws CairnError DISK_FULL, BUSY while nothing can be written
   */
  assertRoom(): void {
    if (this.#cause !== undefined) throw outOfRoom(this.#cause);
  }

  /**
   * Does `work`, and retries it as long as it is refused. Rejects with STOPPED when the node stops
   * during the wait.
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

  /** Ends all waits. */
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
