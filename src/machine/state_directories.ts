import type { FileSystem } from "../system/fs.js";

/**
 * The states of one machine, each in a directory of its own, `<kind>-<n>`, of which a file beside
 * them names the one in force. Holds what machines on LMDB and on the store do alike.
 */
export class StateDirectories {
  /** Names in use: in force, being filled, or still being removed. */
  readonly #names = new Set<string>();
  /** Changes of the file run one after the other. */
  #lastChange: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly fs: FileSystem,
    private readonly path: string,
    private readonly kind: string,
  ) {}

  /** Makes the directory around them if need be, and looks for them. */
  static async open(fs: FileSystem, path: string, kind: string): Promise<StateDirectories> {
    await fs.makeDirectory(path);
    const directories = new StateDirectories(fs, path, kind);
    for (const name of await fs.list(path)) if (directories.isName(name)) directories.#names.add(name);
    return directories;
  }

  /** Whether a text is a name of the kind. */
  isName(text: string): boolean {
    return text.startsWith(`${this.kind}-`) && /^[0-9]+$/.test(text.slice(this.kind.length + 1));
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  pathOf(name: string): string {
    return `${this.path}/${name}`;
  }

  /** Reserves the lowest name that is not in use. */
  reserve(): string {
    let n = 1;
    while (this.#names.has(`${this.kind}-${n}`)) n++;
    this.#names.add(`${this.kind}-${n}`);
    return `${this.kind}-${n}`;
  }

  /** Removes a state that nobody has open. */
  async remove(name: string): Promise<void> {
    await this.fs.removeAll(this.pathOf(name));
    this.#names.delete(name);
  }

  /** Removes all states but one, and what a machine of another kind has left beside them. */
  async removeOthers(name: string, foreign: RegExp): Promise<void> {
    for (const other of [...this.#names]) if (other !== name) await this.remove(other);
    for (const other of await this.fs.list(this.path)) {
      if (foreign.test(other)) await this.fs.removeAll(this.pathOf(other));
    }
  }

  /** Changes the file when all earlier changes have ended. */
  inTurn<Result>(change: () => Promise<Result>): Promise<Result> {
    const result = this.#lastChange.then(change);
    this.#lastChange = result.catch(() => undefined);
    return result;
  }

  /** Waits until no change of the file is under way. */
  async settled(): Promise<void> {
    await this.#lastChange;
  }
}
