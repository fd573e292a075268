import type { LogPosition } from "../raft/types.js";

// The store as the state machine sees it.

/** A key that exists. Its bytes are lent: they are valid until the next call of the store. */
export interface LiveRecord {
  readonly key: Uint8Array;
  /** Meaning known to the state machine alone, 0 to 255. */
  readonly tag: number;
  /** Index of the entry that wrote the value. */
  readonly version: number;
  /** Index of the entry that created the key. */
  readonly created: number;
  readonly value: Uint8Array;
}

/** Reads of a state at rest. */
export interface StoreReads {
  /**
   * Returns a key's record. Reads the disk, on the calling thread, unless memory or the page cache
   * has what is needed. @throws CairnError CORRUPT, STORAGE_FAILED
   */
  get(key: Uint8Array): LiveRecord | undefined;
  /**
   * Yields the keys from `start` on, and below `end` if there is one, in ascending order of their
   * bytes. Nothing may be written before the loop has ended. @throws as {@link get}
   */
  range(start: Uint8Array, end: Uint8Array | undefined): Iterable<LiveRecord>;
}

/** The state as it was when it was captured, whatever is written later. Its owner releases it. */
export interface StoreView extends StoreReads {
  readonly position: LogPosition;
  /** Lets go of what the view keeps; may be called more than once. */
  release(): void;
}

/** Whether a key existed before a write that did not look. */
export type Existed = "yes" | "no" | "unknown";

/** Tells of a frozen table that a step has written. */
export interface WrittenTable {
  /** The flush point that froze it. */
  readonly position: LogPosition;
  /**
   * Versions of the writes in it that made a key, ascending: of those that {@link
   * StoreEngine.putBlind} could not tell, but for keys that a later entry of the same table removed
   * by a floor. Undefined when the step did not find out.
   */
  readonly created: Float64Array | undefined;
}

/** Reads and writes of the state machine. */
export interface StoreEngine extends StoreReads {
  /** Position of the state that the newest manifest holds: the start of a replay. */
  readonly flushed: LogPosition;
  /** The machine's own bytes that {@link freeze} stored with it. Empty in a new store. */
  readonly note: Uint8Array;

  /** Writes a key whose record the caller has read, or which it knows to be absent. */
  put(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): void;
  /**
   * Writes a key without looking at it. Returns whether it existed, as far as memory tells: a
   * function of the store's cache, so nothing that is replicated may depend on it.
   */
  putBlind(key: Uint8Array, value: Uint8Array, version: number, tag: number): Existed;
  /** Writes a key that no table can hold, such as one that is made of the entry's own index. */
  putOnly(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): void;
  /**
   * Returns whether a key existed just before the entry at `version` wrote it; undefined when a
   * step has written that entry, so that older records may be gone. Reads the disk as {@link get}
   * does.
   */
  existedBefore(key: Uint8Array, version: number): boolean | undefined;
  /** Removes a key that exists. */
  delete(key: Uint8Array, version: number): void;
  /**
   * Removes all keys that begin with this byte and were written before `version`, at once: their
   * records count as absent from now on, and sweeps drop them.
   */
  raiseFloor(firstByte: number, version: number): void;

  /** Bytes of the records written since the last flush point: a function of the log alone. */
  readonly charge: number;
  /** Charge at which an entry is a flush point, of the store's rules. */
  readonly flushBytes: number;
  /** Whether the entry just applied is a flush point: the charge has reached the flush size. */
  readonly isDue: boolean;
  /** Place in the memory table, to go back to when entries cannot be applied. */
  mark(): number;
  /** Takes back all writes since the mark. No flush point may lie between. */
  rollback(mark: number): void;
  /**
   * Makes this entry a flush point: the memory table is closed, and written by the next step.
   * `drain`: sweep everything into the base. Never waits.
   */
  freeze(position: LogPosition, note: Uint8Array, drain: boolean): void;
  /** Has `listener` told of each written table, in order, once its manifest is in force. */
  onWritten(listener: (written: WrittenTable) => void): void;
  /**
   * Whether a flush point that drains would free room worth the writing: sweeps are under way, or
   * deletes are left. Depends on how far the steps of this node are.
   */
  readonly wantsDrain: boolean;
  /**
   * Whether any flush point would free room worth it: that of tables which only the manifest before
   * the newest names.
   */
  readonly wantsFlush: boolean;
  /** Records in all tables, about: each copy of a key counts, and so does a delete. */
  readonly recordsAbout: number;
  /** Number of frozen tables that are not written yet. */
  readonly frozen: number;
  /**
   * Waits until at most `most` frozen tables are left, and, if that is above 0, a moment while
   * writes come faster than steps proceed; undefined when there is nothing to wait for.
<<<<<<< HEAD
   * @throws CairnError DISK_FULL, BUSY when the step under way has no room
=======
>>>>>>> store
   */
  settled(most: number): Promise<void> | undefined;
  /** Loads the pages that reads of these keys will need; undefined when memory has them all. */
  prepare(keys: readonly Uint8Array[]): Promise<void> | undefined;
  /** Loads the pages of a span, up to `limits.storePrepareBytes`; undefined as above. */
  prepareRange(start: Uint8Array, end: Uint8Array | undefined): Promise<void> | undefined;
  /** Captures the state as it is now, at `position`. Takes O(1). */
  capture(position: LogPosition): StoreView;
  /** Aborted, with the reason, when a table was found damaged or a step cannot go on. */
  readonly damaged: AbortSignal;
  /** Waits for the step under way, and closes all files. */
  close(): Promise<void>;
  /** Closes all files as a crash would leave them. */
  crash(): Promise<void>;
}

/**
 * Opens and builds stores, each in a directory that is its alone. The machine keeps the directories
 * apart: a restored state is built in a new one, and the old one goes once its views are released.
 */
export interface StoreFactory {
  /** Opens a directory's store, empty when that holds no manifest. @throws CairnError CORRUPT */
  open(directory: string): Promise<StoreEngine>;
  /** Begins a new store in a new directory; the caller opens it once it is finished. */
  build(directory: string): Promise<StoreBuilder>;
}

/** Fills a new store with a whole state. */
export interface StoreBuilder {
  /**
   * Adds a record. Keys with one first byte ascend; those with different first bytes may come
   * interleaved. Await it: it writes when enough has been gathered.
   */
  add(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): Promise<void> | undefined;
  /** Publishes the state: durable on return. */
  finish(position: LogPosition, note: Uint8Array): Promise<void>;
  /** Removes what has been written. */
  abandon(): Promise<void>;
}
