import type { FileSystem } from "../../system/fs.js";

/** Removes files that nothing names any longer, one at a time: each takes the disk a while. */
export class Removals {
  readonly #names: string[] = [];
  #working: Promise<void> | undefined;
  #isStopped = false;

  constructor(
    private readonly fs: FileSystem,
    private readonly directory: string,
  ) {}

  add(name: string): void {
    if (this.#isStopped) return;
    this.#names.push(name);
    this.#working ??= this.#work();
  }

  /** Removes nothing further; waits for the removal under way, unless this is as in a crash. */
  async stop(isCrash: boolean): Promise<void> {
    this.#isStopped = true;
    this.#names.length = 0;
    if (!isCrash) await this.#working;
  }

  /** Waits until all is removed. */
  async settled(): Promise<void> {
    await this.#working;
  }

  async #work(): Promise<void> {
    for (let name = this.#names.shift(); name !== undefined; name = this.#names.shift()) {
      // A file that cannot be removed now is removed at the next start.
      await this.fs.unlink(`${this.directory}/${name}`).catch(() => {});
    }
    this.#working = undefined;
  }
}
