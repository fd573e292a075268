/** Runs tasks one at a time, in the order of their arrival. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve();

  run<Result>(task: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(task);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Resolves when the tasks queued before this call have ended, in success or failure. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
