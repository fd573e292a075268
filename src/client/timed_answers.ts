import { CairnError } from "../base/errors.js";
import type { Clock } from "../system/clock.js";
import { afterAwake } from "./patient_timer.js";

/**
 * Reads the answers of one stream, whose first one it waits for. The time limit applies to each
 * answer, not to all of them: a slow reader may take any time. While nobody asks for an answer, at
 * most `streamBufferBytes` and one answer wait here, and flow control holds the sender back.
 */
export class TimedAnswers<Answer> {
  /** Undefined only when the server sends no answer. */
  #first: Answer | undefined;
  readonly #answers: AsyncIterator<Answer>;
  readonly #controller = new AbortController();
  readonly #onOutsideEnd: () => void;

  private constructor(
    start: (signal: AbortSignal) => AsyncIterable<Answer>,
    private readonly outside: AbortSignal,
    private readonly clock: Clock,
  ) {
    this.#onOutsideEnd = () => this.#controller.abort(outside.reason);
    outside.addEventListener("abort", this.#onOutsideEnd);
    this.#answers = start(this.#controller.signal)[Symbol.asyncIterator]();
  }

  /**
   * Opens a stream and waits for the first answer. `outside` ends the stream until it is closed.
   * @throws CairnError TIMEOUT when the answer does not come within `timeoutMs`
   */
  static async open<Answer>(
    start: (signal: AbortSignal) => AsyncIterable<Answer>,
    timeoutMs: number | undefined,
    outside: AbortSignal,
    clock: Clock,
  ): Promise<TimedAnswers<Answer>> {
    const answers = new TimedAnswers(start, outside, clock);
    try {
      answers.#first = await answers.next(timeoutMs);
      return answers;
    } catch (error) {
      answers.close();
      throw error;
    }
  }

  get first(): Answer | undefined {
    return this.#first;
  }

  /** Yields all answers. @throws CairnError TIMEOUT when one does not come within `timeoutMs` */
  async *read(timeoutMs: number | undefined): AsyncGenerator<Answer, void, undefined> {
    try {
      for (let answer = this.#first; answer !== undefined; answer = await this.next(timeoutMs)) yield answer;
    } finally {
      this.close();
    }
  }

  /**
   * Returns the next answer after the first one; undefined at the end of the stream.
   * @throws CairnError TIMEOUT when it does not come within `timeoutMs`, and the stream's error
   */
  async next(timeoutMs: number | undefined): Promise<Answer | undefined> {
    const late = () =>
      this.#controller.abort(new CairnError("TIMEOUT", `there was no further part in ${timeoutMs} ms`));
    const cancel = timeoutMs === undefined ? () => {} : afterAwake(this.clock, timeoutMs, late);
    try {
      const { done, value } = await this.#answers.next();
      return done === true ? undefined : value;
    } finally {
      cancel();
    }
  }

  /** Ends the stream if it has not ended. */
  close(): void {
    this.outside.removeEventListener("abort", this.#onOutsideEnd);
    void this.#answers.return?.();
  }
}
