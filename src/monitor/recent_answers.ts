/** Age up to which an answer is given again, in ms. */
const FRESH_MS = 1_000;

/** Answers that are kept at a time. */
const ANSWERS = 100;

/** Keeps the answers of the last second: pages that look at the same thing cost as much as one. */
export class RecentAnswers {
  readonly #answers = new Map<string, { readonly text: string; readonly madeMs: number }>();

  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Returns the answer to a question; `make` makes it when there is none from within a second. */
  get(question: string, make: () => string): string {
    const found = this.#answers.get(question);
    if (found !== undefined && this.now() - found.madeMs < FRESH_MS) return found.text;
    const text = make();
    // The oldest come first.
    this.#answers.delete(question);
    this.#answers.set(question, { text, madeMs: this.now() });
    const [oldest] = this.#answers.keys();
    if (this.#answers.size > ANSWERS && oldest !== undefined) this.#answers.delete(oldest);
    return text;
  }
}
