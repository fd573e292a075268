import type { LogPosition } from "../raft/types.js";
import type { StoreReader } from "./levels/store_reader.js";
import type { LiveRecord, StoreView } from "./reads.js";

/** Something that stays as long as anyone uses it. */
export interface Retained {
  retain(): void;
  release(): void;
}

/** Counts the users of a thing, and lets go of it after the last one. */
export class Pinned<Held> implements Retained {
  #users = 1;

  constructor(
    readonly held: Held,
    private readonly letGo: (held: Held) => void,
  ) {}

  retain(): void {
    this.#users += 1;
  }

  release(): void {
    this.#users -= 1;
    if (this.#users === 0) this.letGo(this.held);
  }
}

/** A captured state: it retains the tables that it reads. */
export class PinnedView implements StoreView {
  #isReleased = false;

  constructor(
    readonly position: LogPosition,
    private readonly reader: StoreReader,
    private readonly parts: readonly Retained[],
  ) {
    for (const part of parts) part.retain();
  }

  get(key: Uint8Array): LiveRecord | undefined {
    return this.reader.get(key);
  }

  range(start: Uint8Array, end: Uint8Array | undefined): Iterable<LiveRecord> {
    return this.reader.range(start, end);
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    for (const part of this.parts) part.release();
  }
}
