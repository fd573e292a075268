// A rate limit for a whole fleet: at most `limit` permits in each window of time. Processes fetch permits in batches, so that most
// calls of take() need no call to the cluster.
export class RateLimiter {
  #client;
  #options;
  #window = 0;
  #permits = 0;
  #fetching;

  /** `batch`: permits to fetch at a time. A process that ends takes the rest of its batch with it. */
  constructor(client, { name, limit, windowMs, batch = Math.ceil(limit / 20), now = Date.now }) {
    this.#client = client;
    this.#options = { key: `rate/${name}`, limit, windowMs, batch, now };
  }

  /** Whether one more is allowed now. */
  async take() {
    for (;;) {
      const window = this.#windowNow();
      if (window > this.#window) this.#permits = 0;
      if (this.#permits > 0) {
        this.#permits--;
        return true;
      }
      // All callers that wait share one call to the cluster.
      this.#fetching ??= this.#fetch(window).finally(() => {
        this.#fetching = undefined;
      });
      if ((await this.#fetching) === 0) return false;
    }
  }

  #windowNow() {
    return Math.floor(this.#options.now() / this.#options.windowMs);
  }

  /** Fetches a batch of this window; resolves with the number of permits in it. */
  async #fetch(window) {
    const { key, limit, batch } = this.#options;
    const permits = await this.#client.atomically(
      async (tx) => {
        const { window: newest = 0, used = 0 } = (await tx.get(key))?.json() ?? {};
        // A process whose clock is behind has no part in a window that is over for the others.
        if (newest > window) return 0;
        const before = newest === window ? used : 0;
        const granted = Math.min(batch, limit - before);
        if (granted > 0) tx.put(key, { json: { window, used: before + granted } });
        return granted;
      },
      { attempts: 100 },
    );
    this.#window = window;
    this.#permits = permits;
    return permits;
  }
}
