/** Changes of one index, as a watch has reported them: one line each. */
type Changes = string;

/**
 * Holds the watches of one run against each other, and against the writes that were answered. All of them must report the same changes at the
 * same index, and none may leave out a write that was answered.
 */
export class ChangeLedger {
  readonly #changes = new Map<number, Changes>();
  /** By index: key and value of writes that were answered. */
  readonly #answered = new Map<number, string[]>();

  /** Number of indexes with changes that a watch has reported. */
  get size(): number {
    return this.#changes.size;
  }

  /** A write was answered: it set the key at this version. */
  answered(index: number, key: string, value: string): void {
    const lines = this.#answered.get(index) ?? [];
    lines.push(putLine(key, value));
    this.#answered.set(index, lines);
  }

  /** A watch has reported all changes of an index. @throws Error when another one has reported others */
  reported(watcher: string, index: number, lines: readonly string[]): void {
    const changes = lines.join("\n");
    const before = this.#changes.get(index);
    if (before === undefined) this.#changes.set(index, changes);
    else if (before !== changes) {
      throw new Error(`at index ${index} the watch ${watcher} reported\n${changes}\nand another one\n${before}`);
    }
  }

  /** Checks the writes from `first` to `last`, which a watch has covered. Returns their number. @throws Error */
  check(watcher: string, first: number, last: number): number {
    let checked = 0;
    for (const [index, lines] of this.#answered) {
      if (index < first || index > last) continue;
      const changes = this.#changes.get(index)?.split("\n") ?? [];
      const missing = lines.find((line) => !changes.includes(line));
      if (missing !== undefined) {
        throw new Error(
          `the watch ${watcher} covered ${first} to ${last}, and did not report "${missing}" at ${index}`,
        );
      }
      checked++;
    }
    return checked;
  }
}

export function putLine(key: string, value: string): string {
  return `put ${key} ${value}`;
}
