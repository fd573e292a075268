import { limits } from "../base/limits.js";
import { overLimit } from "../base/telemetry/refusals.js";

/** Time after which a refused caller may try again, in milliseconds. */
const RETRY_AFTER_MS = 1_000;

/** Limits the streams of one kind that a node serves at a time. */
export class Places {
  #taken = 0;
  readonly #most: number;

  /** `what`: the streams, in the plural. */
  constructor(
    private readonly limit: "sessionStreams" | "keepAliveStreams" | "downloads",
    private readonly what: string,
    most: number = limits[limit],
  ) {
    this.#most = most;
  }

  /**
   * Serves a stream in one of the places, which is free again when the stream ends.
   * @throws CairnError BUSY when all are taken
   */
  async *serve<Answer>(answers: () => AsyncIterable<Answer>): AsyncGenerator<Answer, void, undefined> {
    if (this.#taken >= this.#most) {
      const text = `this node serves ${this.#taken} ${this.what} (limit ${this.limit}): ask another member, or try later`;
      throw overLimit("BUSY", this.limit, text, { retryAfterMs: RETRY_AFTER_MS });
    }
    this.#taken++;
    try {
      yield* answers();
    } finally {
      this.#taken--;
    }
  }
}
