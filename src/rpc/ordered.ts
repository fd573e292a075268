import { assert } from "../base/assert.js";

/**
 * Answers a stream of requests, several at a time: starts each request as it arrives, with at most
 * `maxInFlight` (1 or more) answers that the consumer has not taken yet, and yields the answers in
 * the order of the requests.
 *
 * When a request fails, or the stream of requests does, yields the answers before it, then throws
 * the error. Starts no further request once the failure is known, and drops the answers to requests
 * that were started after the failed one.
 */
export async function* orderedAnswers<Request, Answer>(
  requests: AsyncIterable<Request>,
  handle: (request: Request) => Promise<Answer>,
  maxInFlight: number,
): AsyncGenerator<Answer, void, undefined> {
  assert(Number.isSafeInteger(maxInFlight) && maxInFlight >= 1, "at least one request is in flight", { maxInFlight });
  const window = new Window(requests, handle, maxInFlight);
  try {
    for (;;) {
      const answer = await window.take();
      if (answer === undefined) return;
      yield answer.value;
    }
  } finally {
    window.stop();
  }
}

/**
 * The requests that were started and whose answers the consumer has not taken, oldest first, and
 * the reader that starts them.
 */
class Window<Request, Answer> {
  readonly #requests: AsyncIterator<Request>;
  readonly #handle: (request: Request) => Promise<Answer>;
  readonly #size: number;
  readonly #answers: Promise<Answer>[] = [];
  #reading = false;
  #readingEnded = false;
  #failure: { error: unknown } | undefined;
  /** Wakes a take() that waits for the next request. */
  #wake: (() => void) | undefined;

  constructor(requests: AsyncIterable<Request>, handle: (request: Request) => Promise<Answer>, size: number) {
    this.#requests = requests[Symbol.asyncIterator]();
    this.#handle = handle;
    this.#size = size;
    this.#readOn();
  }

  /**
   * Returns the next answer in order; undefined at the end. Taking an answer makes room for another
   * request.
   */
  async take(): Promise<{ value: Answer } | undefined> {
    while (this.#answers.length === 0 && !this.#readingEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const oldest = this.#answers[0];
    if (oldest === undefined) {
      if (this.#failure !== undefined) throw this.#failure.error;
      return undefined;
    }
    const value = await oldest;
    this.#answers.shift();
    this.#readOn();
    return { value };
  }

  /** Stops reading and starting requests. Does not wait for those that were started. */
  stop(): void {
    if (this.#readingEnded) return;
    this.#endReading();
    // Not awaited: a source that hangs must not delay its consumer's end.
    this.#requests.return?.().catch(() => {});
  }

  /** Reads requests until the window is full; one reader at a time. */
  #readOn(): void {
    if (this.#reading) return;
    this.#reading = true;
    void this.#read();
  }

  async #read(): Promise<void> {
    try {
      while (!this.#readingEnded && this.#answers.length < this.#size) {
        const { done, value } = await this.#requests.next();
        if (this.#readingEnded) return;
        if (done === true) this.#endReading();
        else this.#start(value);
      }
    } catch (error) {
      this.#failure = { error };
      this.#endReading();
    } finally {
      // In the same turn in which the loop saw the window full: a take() right after it must find
      // no reader, and start one.
      this.#reading = false;
    }
  }

  #start(request: Request): void {
    const answer = this.#run(request);
    // take() throws the failure itself, in its turn; here it only stops the reading.
    answer.catch(() => this.stop());
    this.#answers.push(answer);
    this.#wakeUp();
  }

  async #run(request: Request): Promise<Answer> {
    return this.#handle(request);
  }

  #endReading(): void {
    this.#readingEnded = true;
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
