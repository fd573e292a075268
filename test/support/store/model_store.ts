import { setImmediate as nextTurn } from "node:timers/promises";
import { CairnError } from "../../../src/base/errors.js";
import { LOG_START, type LogPosition } from "../../../src/raft/types.js";
import type {
  Existed,
  LiveRecord,
  StoreBuilder,
  StoreEngine,
  StoreFactory,
  StoreView,
  WrittenTable,
} from "../../../src/store/reads.js";
import type { FileSystem } from "../../../src/system/fs.js";

// The store in a Map: the model that the real one is compared with, and that the machine can be tried on.

interface ModelRecord extends LiveRecord {
  readonly isBlind: boolean;
}

/** A change of one key, the newest last. Undefined: the key was removed. */
interface Change {
  readonly at: number;
  readonly version: number;
  readonly record: ModelRecord | undefined;
}

interface Floor {
  readonly at: number;
  readonly firstByte: number;
  readonly version: number;
}

/** The state of a store on its disk. */
interface Saved {
  readonly position: LogPosition;
  readonly note: Uint8Array;
  readonly records: () => readonly LiveRecord[];
}

export interface ModelOptions {
  readonly flushBytes?: number;
  /** Where the directories of the stores are made, without files in them. Default: nowhere. */
  readonly fs?: FileSystem;
  /** Whether steps tell which blind writes made a key. Default true. */
  readonly tellsCreated?: boolean;
}

/** Keeps stores by their directories; a store that crashes is left as of its newest written table. */
export class ModelStores implements StoreFactory {
  readonly #saved = new Map<string, Saved>();
  /** The engines that were opened, the newest last. */
  readonly opened: ModelStore[] = [];

  constructor(private readonly options: ModelOptions = {}) {}

  async open(directory: string): Promise<ModelStore> {
    await this.options.fs?.makeDirectory(directory);
    const store = new ModelStore(this.#saved.get(directory), this.options, (saved) =>
      this.#saved.set(directory, saved),
    );
    this.opened.push(store);
    return store;
  }

  async build(directory: string): Promise<StoreBuilder> {
    await this.options.fs?.makeDirectory(directory);
    const records: LiveRecord[] = [];
    const last = new Map<number, Uint8Array>();
    return {
      add: (key, value, version, created, tag) => {
        const before = last.get(key[0]!);
        if (before !== undefined && Buffer.compare(before, key) >= 0) throw new Error("keys must ascend");
        const record = { key: copied(key), value: copied(value), version, created, tag };
        last.set(key[0]!, record.key);
        records.push(record);
        return records.length % 3 === 0 ? nextTurn() : undefined;
      },
      finish: async (position, note) => {
        this.#saved.set(directory, { position, note: copied(note), records: () => records });
      },
      abandon: async () => undefined,
    };
  }
}

export class ModelStore implements StoreEngine {
  readonly #chains = new Map<string, Change[]>();
  #names: string[] | undefined;
  /** Name of the key of each change, for going back. */
  readonly #journal: (string | undefined)[] = [];
  #floors: Floor[] = [];
  /** Number of changes before the oldest table in memory, and before the active one. */
  #written = 0;
  #frozenAt: { readonly position: LogPosition; readonly note: Uint8Array; readonly at: number }[] = [];
  #unknown: { readonly version: number; readonly created: boolean }[] = [];
  readonly #listeners: ((written: WrittenTable) => void)[] = [];
  readonly #damaged = new AbortController();
  #flushed: LogPosition = LOG_START;
  #note: Uint8Array = new Uint8Array(0);
  #charges: number[] = [0];
  #chargeAtFreeze = 0;
  #step: Promise<void> | undefined;
  #ended = false;
  /** Flush points so far, for tests. */
  freezes: { readonly index: number; readonly drain: boolean }[] = [];
  /** Views that are not released. */
  views = 0;
  readonly flushBytes: number;

  constructor(
    saved: Saved | undefined,
    private readonly options: ModelOptions,
    private readonly save: (saved: Saved) => void,
  ) {
    this.flushBytes = options.flushBytes ?? 16 * 1024 * 1024;
    if (saved === undefined) return;
    this.#flushed = saved.position;
    this.#note = saved.note;
    for (const record of saved.records()) this.#change(record.key, record.version, { ...record, isBlind: false });
    this.#written = this.#journal.length;
    this.#chargeAtFreeze = this.#charges.at(-1)!;
  }

  get flushed(): LogPosition {
    return this.#flushed;
  }

  get note(): Uint8Array {
    return this.#note;
  }

  get(key: Uint8Array): LiveRecord | undefined {
    return this.#at(nameOf(key), this.#journal.length);
  }

  range(start: Uint8Array, end: Uint8Array | undefined): Iterable<LiveRecord> {
    return this.#range(start, end, this.#journal.length);
  }

  put(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): void {
    this.#change(key, version, { key: copied(key), value: copied(value), version, created, tag, isBlind: false });
  }

  putBlind(key: Uint8Array, value: Uint8Array, version: number, tag: number): Existed {
    const name = nameOf(key);
    const before = this.#at(name, this.#journal.length);
    const isInMemory = (this.#chains.get(name)?.at(-1)?.at ?? -1) >= this.#written;
    const created = before?.created ?? version;
    this.#change(key, version, { key: copied(key), value: copied(value), version, created, tag, isBlind: true });
    if (isInMemory) return before === undefined ? "no" : "yes";
    this.#unknown.push({ version, created: before === undefined });
    return "unknown";
  }

  putOnly(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): void {
    if (this.#chains.has(nameOf(key))) throw new Error("a record of this key exists, or has existed");
    this.put(key, value, version, created, tag);
  }

  existedBefore(key: Uint8Array, version: number): boolean | undefined {
    if (version <= this.#flushed.index) return undefined;
    const chain = this.#chains.get(nameOf(key)) ?? [];
    const before = chain.findLast((change) => change.version < version)?.record;
    return before !== undefined && !this.#floors.some((floor) => floor.version < version && isBelow(floor, before));
  }

  delete(key: Uint8Array, version: number): void {
    if (this.get(key) === undefined) throw new Error("a key that is removed exists");
    this.#change(key, version, undefined);
  }

  raiseFloor(firstByte: number, version: number): void {
    this.#floors.push({ at: this.#journal.length, firstByte, version });
    this.#journal.push(undefined);
    this.#charges.push(this.#charges.at(-1)!);
  }

  get charge(): number {
    return this.#charges.at(-1)! - this.#chargeAtFreeze;
  }

  get isDue(): boolean {
    return this.charge >= this.flushBytes;
  }

  mark(): number {
    return this.#journal.length;
  }

  rollback(mark: number): void {
    while (this.#journal.length > mark) {
      const name = this.#journal.pop();
      this.#charges.pop();
      if (name === undefined) continue;
      const chain = this.#chains.get(name)!;
      chain.pop();
      if (chain.length === 0) {
        this.#chains.delete(name);
        this.#names = undefined;
      }
    }
    this.#floors = this.#floors.filter(({ at }) => at < mark);
  }

  freeze(position: LogPosition, note: Uint8Array, drain: boolean): void {
    this.freezes.push({ index: position.index, drain });
    this.#frozenAt.push({ position, note: copied(note), at: this.#journal.length });
    this.#chargeAtFreeze = this.#charges.at(-1)!;
    this.#step ??= this.#writeTables();
  }

  onWritten(listener: (written: WrittenTable) => void): void {
    this.#listeners.push(listener);
  }

  get wantsDrain(): boolean {
    return false;
  }

  get wantsFlush(): boolean {
    return false;
  }

  get recordsAbout(): number {
    return [...this.#chains.keys()].filter((name) => this.#at(name, this.#journal.length) !== undefined).length;
  }

  get frozen(): number {
    return this.#frozenAt.length;
  }

  settled(most: number): Promise<void> | undefined {
    if (this.frozen <= most) return undefined;
    return (async () => {
      while (this.frozen > most && !this.#ended) await nextTurn();
    })();
  }

  prepare(_keys: readonly Uint8Array[]): Promise<void> | undefined {
    return undefined;
  }

  prepareRange(_start: Uint8Array, _end: Uint8Array | undefined): Promise<void> | undefined {
    return undefined;
  }

  capture(position: LogPosition): StoreView {
    const at = this.#journal.length;
    let isOpen = true;
    this.views++;
    return {
      position,
      get: (key) => this.#at(nameOf(key), at),
      range: (start, end) => {
        if (!isOpen) throw new Error("the view is released");
        return this.#range(start, end, at);
      },
      release: () => {
        if (!isOpen) throw new Error("a view is released once");
        isOpen = false;
        this.views--;
      },
    };
  }

  get damaged(): AbortSignal {
    return this.#damaged.signal;
  }

  /** Has the store found damage. */
  damage(): void {
    this.#damaged.abort(new CairnError("CORRUPT", "a table is damaged"));
  }

  async close(): Promise<void> {
    await this.#step;
    this.#ended = true;
  }

  async crash(): Promise<void> {
    this.#ended = true;
  }

  async #writeTables(): Promise<void> {
    for (let next = this.#frozenAt[0]; next !== undefined; next = this.#frozenAt[0]) {
      await nextTurn();
      if (this.#ended) return;
      const { position, note, at } = next;
      // All changes stay known, so the table's contents are found when somebody asks.
      const records = () => [...this.#chains.keys()].sort().flatMap((name) => this.#at(name, at) ?? []);
      this.save({ position, note, records });
      this.#frozenAt.shift();
      this.#written = at;
      this.#flushed = position;
      this.#note = note;
      const isOf = ({ version }: { readonly version: number }) => version <= position.index;
      const created = this.#unknown.filter((put) => isOf(put) && put.created).map(({ version }) => version);
      this.#unknown = this.#unknown.filter((put) => !isOf(put));
      const told = (this.options.tellsCreated ?? true) ? Float64Array.from(created) : undefined;
      for (const listener of this.#listeners) listener({ position, created: told });
    }
    this.#step = undefined;
  }

  #change(key: Uint8Array, version: number, record: ModelRecord | undefined): void {
    const name = nameOf(key);
    let chain = this.#chains.get(name);
    if (chain === undefined) {
      chain = [];
      this.#chains.set(name, chain);
      this.#names = undefined;
    }
    if ((chain.at(-1)?.version ?? 0) > version) throw new Error("versions of a key ascend");
    chain.push({ at: this.#journal.length, version, record });
    this.#journal.push(name);
    this.#charges.push(this.#charges.at(-1)! + 20 + key.byteLength + (record?.value.byteLength ?? 0));
  }

  #at(name: string, before: number): ModelRecord | undefined {
    const chain = this.#chains.get(name) ?? [];
    const record = chain.findLast(({ at }) => at < before)?.record;
    if (record === undefined) return undefined;
    return this.#floors.some((floor) => floor.at < before && isBelow(floor, record)) ? undefined : record;
  }

  *#range(start: Uint8Array, end: Uint8Array | undefined, before: number): Generator<LiveRecord, void> {
    this.#names ??= [...this.#chains.keys()].sort();
    const names = this.#names;
    const behind = end && nameOf(end);
    for (let at = placeOf(names, nameOf(start)); at < names.length; at++) {
      if (behind !== undefined && names[at]! >= behind) return;
      const record = this.#at(names[at]!, before);
      if (record !== undefined) yield record;
    }
  }
}

function isBelow({ firstByte, version }: Floor, record: ModelRecord): boolean {
  return record.key[0] === firstByte && record.version < version;
}

function placeOf(names: readonly string[], least: string): number {
  let [low, high] = [0, names.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (names[middle]! < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function copied(bytes: Uint8Array): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes);
}
