import { CairnError } from "../../base/errors.js";

/**
 * Buffers that go out full and come back used up. There are never more than so many; who wants one
 * when all are out waits.
 */
export class BufferPool {
  readonly #free: ArrayBuffer[] = [];
  #made = 0;
  #waiter: { resolve(buffer: ArrayBuffer): void; reject(error: Error): void } | undefined;
  #closed = false;

  constructor(
    private readonly count: number,
    /** Of each buffer. */
    private readonly bytes: number,
  ) {}

  get isClosed(): boolean {
    return this.#closed;
  }

  /** A buffer to fill. One caller at a time. Rejects with CANCELLED when the pool is closed. */
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

  /** A buffer comes back. */
  put(buffer: ArrayBuffer): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter === undefined) this.#free.push(buffer);
    else waiter.resolve(buffer);
  }

  /** Nobody gets a buffer any more. */
  close(): void {
    this.#closed = true;
    this.#waiter?.reject(closed());
    this.#waiter = undefined;
  }
}

function closed(): CairnError {
  return new CairnError("CANCELLED", "the buffers are no longer wanted");
}
