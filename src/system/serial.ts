/** Runs tasks one after the other, in the order they came in. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve();

  run<Result>(task: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(task);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Resolves when the tasks that were there at the call have ended, well or not. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
