import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { StoreEngine, WrittenTable } from "../../store/reads.js";
import type { ChangeHistory } from "../kv/effects/change_history.js";
import { CREATED, type EffectNotes } from "../kv/effects/effect_notes.js";
import type { Effects, IndexSpan } from "../kv/effects/effects.js";
import { MemoryHistory } from "../kv/effects/memory_history.js";
import type { KeyRecord } from "../kv/record_store.js";
import { RowEncoder } from "./keyspaces.js";
import { OpenPuts } from "./open_puts.js";

/**
 * The history of changes of a machine on the store. It is in memory, and begins anew behind the
 * flush point at which the machine was opened. A put does not look at its key: whether that existed
 * is found out by the step that writes it, or when a watch asks before.
 */
export class StoreHistory implements ChangeHistory {
  readonly #known = new MemoryHistory();
  readonly #open = new OpenPuts();
  /** Indexes of written puts that made a key, ascending, by the index of the flush point. */
  #written: { readonly through: number; readonly created: Float64Array }[] = [];
  #writtenBytes = 0;
  readonly #rows = new RowEncoder();
  /** First index from which on the effects of puts are known. */
  #since: number;

  /** `reading` runs a read of the state, and notes its failure. */
  constructor(
    private engine: StoreEngine,
    private readonly reading: <Result>(read: () => Result) => Result,
  ) {
    this.#since = engine.flushed.index + 1;
  }

  get since(): number {
    return Math.max(this.#since, this.#known.since);
  }

  get isKeeping(): boolean {
    return this.#known.isKeeping;
  }

  /** Adds the notes about the entries up to `last`. */
  add(last: number, notes: EffectNotes): void {
    this.#known.add(last, notes);
    if (notes.openPuts.length > 0) this.#open.add(notes.openPuts);
  }

  /** Takes over what a step has found out. Returns the open puts that have created their key. */
  written({ position: { index }, created }: WrittenTable): Float64Array {
    const news = created?.filter((version) => this.#open.has(version)) ?? NONE;
    const isComplete = created !== undefined || this.#open.isEmptyThrough(index);
    this.#open.forgetThrough(index);
    if (!isComplete) {
      this.#since = index + 1;
      this.#written = [];
      this.#writtenBytes = 0;
    } else if (news.length > 0) {
      this.#written.push({ through: index, created: news });
      this.#writtenBytes += news.byteLength;
    }
    while (this.#writtenBytes > limits.effectBytes) this.#forgetOldest();
    return news;
  }

  /** Begins anew with the state of another store. */
  restart(engine: StoreEngine): void {
    const { index } = engine.flushed;
    this.engine = engine;
    this.#known.restart(index);
    this.#open.clear();
    this.#written = [];
    this.#writtenBytes = 0;
    this.#since = index + 1;
  }

  effects(span: IndexSpan): ReadonlyMap<number, Effects> {
    const found = new Map(this.#known.effects(span));
    for (const { through, created } of this.#written) {
      if (through < span[0]) continue;
      for (let at = placeOf(created, span[0]); at < created.length && created[at]! <= span[1]; at++) {
        found.set(created[at]!, CREATED);
      }
    }
    this.reading(() => {
      for (const index of this.#open.created(span, this.#existed)) found.set(index, CREATED);
    });
    return found;
  }

  keepRecords(): () => void {
    return this.#known.keepRecords();
  }

  recordsBefore(index: number): readonly (KeyRecord | undefined)[] | undefined {
    return this.#known.recordsBefore(index);
  }

  forget(index: number): void {
    this.#known.forget(index);
    while ((this.#written[0]?.through ?? Number.POSITIVE_INFINITY) <= index) this.#forgetOldest();
  }

  readonly #existed = (key: Uint8Array, index: number): boolean => {
    const existed = this.engine.existedBefore(this.#rows.key(key), index);
    if (existed !== undefined) return existed;
    throw new CairnError("INTERNAL", `the put at index ${index} is written, and its step has not told of it`);
  };

  #forgetOldest(): void {
    const { through, created } = this.#written.shift()!;
    this.#writtenBytes -= created.byteLength;
    this.#since = Math.max(this.#since, through + 1);
  }
}

const NONE = new Float64Array(0);

/** Returns the place of the first number that is at least `least`. */
function placeOf(ascending: Float64Array, least: number): number {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! < least) low = middle + 1;
    else high = middle;
  }
  return low;
}
