import { limits } from "../../base/limits.js";
import type { Entry } from "../../raft/types.js";
import type { WriteAheadLog } from "../../storage/wal/wal.js";
import type { LogView } from "../views.js";

// Reads the applied entries of a node, for those that follow them.

/** The applied entries of a node, as far as its log holds them. */
export class AppliedLog {
  readonly #listeners = new Set<() => void>();

  constructor(
    private readonly memory: LogView,
    private readonly disk: Pick<WriteAheadLog, "entries">,
  ) {}

  /**
   * Calls `listener` after each batch of entries that is applied, and after a snapshot is
   * installed, until the returned function is called. It must be quick, and must not throw.
   */
  onAdvance(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Index of the first entry that the log holds, or may hold soon. */
  get first(): number {
    return this.memory.boundary.index + 1;
  }

  /**
   * Returns entries from `first` up to `last`, which is applied: at least the first one, and then
   * no more than `maxBytes`. Undefined when they are no longer in memory.
   */
  recent(first: number, last: number, maxBytes: number): readonly Entry[] | undefined {
    return this.memory.entriesFrom(first, mostOf(first, last), maxBytes);
  }

  /**
   * Reads entries from disk, as {@link recent} does.
   * @throws CairnError OUT_OF_RANGE when they are trimmed, CORRUPT
   */
  async older(first: number, last: number, maxBytes: number): Promise<readonly Entry[]> {
    return this.disk.entries(first, first + mostOf(first, last) - 1, maxBytes);
  }

  /** Tells the listeners that the machine has advanced. */
  advanced(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** Returns the number of entries to read at a time, so that a reader never holds up others. */
function mostOf(first: number, last: number): number {
  return Math.min(last - first + 1, limits.watchBatchEntries);
}
