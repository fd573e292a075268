import { CairnError } from "../../base/errors.js";

/**
 * Lends buffers that leave full and return used up. Makes at most `count` of them; when all are
 * out, the caller waits.
 */
export class BufferPool {
  readonly #free: ArrayBuffer[] = [];
  #made = 0;
  #waiter: { resolve(buffer: ArrayBuffer): void; reject(error: Error): void } | undefined;
  #closed = false;

  constructor(
    private readonly count: number,
    /** Size of each buffer. */
    private readonly bytes: number,
  ) {}

  get isClosed(): boolean {
    return this.#closed;
  }

  /**
   * Takes a buffer to fill. One caller at a time. Rejects with CANCELLED when the pool is closed.
   */
  async take(): Promise<ArrayBuffer> {
    if (this.#closed) throw closed();
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#made < this.count) {
      this.#made++;
      return new ArrayBuffer(this.bytes);
    }
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  /** Returns a buffer to the pool. */
  put(buffer: ArrayBuffer): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter === undefined) this.#free.push(buffer);
    else waiter.resolve(buffer);
  }

  /** Closes the pool: nobody gets a buffer from now on. */
  close(): void {
    this.#closed = true;
    this.#waiter?.reject(closed());
    this.#waiter = undefined;
  }
}

function closed(): CairnError {
  return new CairnError("CANCELLED", "the buffers are no longer wanted");
}
