import { CairnError } from "../../src/base/errors.js";
import type { Existed, LiveRecord, StoreEngine, StoreReads } from "../../src/store/reads.js";
import type { StoreRules } from "../../src/store/rules/rules.js";
import type { Random } from "../support/random.js";

/** Rules under which a few kilobytes make many tables. */
export const smallRules: StoreRules = {
  ...{ version: 1, flushBytes: 2048, fanOut: 3, baseRuns: 2, sweepFlushes: 4 },
  ...{ pageBytes: 128, blockBytesMin: 256, blockBytesMax: 1024, blockBits: 1 },
  ...{ tableBytesMin: 1024, tableBytesMax: 2048, tableBits: 1 },
  seeds: [0x1234, 0x9876],
};

/** Rules under which sweeps stop within, even in a short log. */
export const tinyRules: StoreRules = {
  ...smallRules,
  ...{ flushBytes: 600, sweepFlushes: 2, tableBytesMin: 512, tableBytesMax: 1024 },
};

interface ModelRecord {
  readonly value: string;
  readonly version: number;
  readonly created: number;
  readonly tag: number;
}

/** The state that a store should hold, by the keys' text. */
export class StoreModel {
  readonly records = new Map<string, ModelRecord>();

  copy(): StoreModel {
    const copy = new StoreModel();
    for (const [key, record] of this.records) copy.records.set(key, record);
    return copy;
  }

  put(key: string, value: string, version: number, tag: number): void {
    const created = this.records.get(key)?.created ?? version;
    this.records.set(key, { value, version, created, tag });
  }

  clear(firstByte: number): void {
    for (const key of [...this.records.keys()]) if (key.charCodeAt(0) === firstByte) this.records.delete(key);
  }

  /** The records of a span, as text, in order. */
  span(start: string, end: string | undefined): string[] {
    const keys = [...this.records.keys()].filter((key) => key >= start && (end === undefined || key < end)).sort();
    return keys.map((key) => textOf({ key, ...this.records.get(key)! }));
  }
}

export const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");

/** The records of a span of a store, as text. */
export function spanOf(store: StoreReads, start = "", end?: string): string[] {
  const found: string[] = [];
  for (const record of store.range(bytes(start), end === undefined ? undefined : bytes(end)))
    found.push(liveText(record));
  return found;
}

/** A key's record in a store, as text. */
export function recordOf(store: StoreReads, key: string): string | undefined {
  const record = store.get(bytes(key));
  return record && liveText(record);
}

export function modelRecordOf(model: StoreModel, key: string): string | undefined {
  const record = model.records.get(key);
  return record && textOf({ key, ...record });
}

function liveText({ key, value, version, created, tag }: LiveRecord): string {
  const text = (part: Uint8Array) => Buffer.from(part).toString("latin1");
  return textOf({ key: text(key), value: text(value), version, created, tag });
}

function textOf({ key, value, version, created, tag }: ModelRecord & { readonly key: string }): string {
  return `${key}=${value} ${version} ${created} ${tag}`;
}

/** One entry of a log: its effects are a function of the state. */
export type Change =
  | { readonly kind: "put" | "blind" | "only"; readonly key: string; readonly value: string }
  | { readonly kind: "delete"; readonly key: string }
  | { readonly kind: "clear"; readonly firstByte: number }
  | { readonly kind: "drain" };

/** Draws a log: keys of three keyspaces, of which "o" holds keys that are made of the index alone. */
export function drawLog(random: Random, length: number): Change[] {
  const alive: string[] = [];
  const log: Change[] = [];
  const keys = random.whole(20, 200);
  for (let index = 1; index <= length; index++) {
    const key = `${random.pick(["k", "l"])}${random.whole(0, keys).toString().padStart(random.whole(1, 4), "0")}`;
    const value = "v".repeat(random.whole(0, random.oneIn(20) ? 600 : 60)) + index;
    const chance = random.whole(0, 99);
    if (chance < 40) log.push({ kind: "blind", key, value });
    else if (chance < 55) log.push({ kind: "put", key, value });
    else if (chance < 70) {
      alive.push(`o${index}`);
      log.push({ kind: "only", key: `o${index}`, value });
    } else if (chance < 80 && alive.length > 0) {
      const at = random.whole(0, alive.length - 1);
      log.push({ kind: "delete", key: alive.splice(at, 1)[0]! });
    } else if (random.oneIn(300)) log.push({ kind: "clear", firstByte: "k".charCodeAt(0) });
    else if (random.oneIn(100)) log.push({ kind: "drain" });
    else log.push({ kind: "delete", key });
  }
  return log;
}

/**
 * Applies one entry to the store, and to the model that stands before it. Freezes when it is due. Returns what a blind put said of the key,
 * and the truth.
 */
export function applyChange(
  store: StoreEngine,
  model: StoreModel,
  index: number,
  change: Change,
): { readonly said: Existed; readonly existed: boolean } | undefined {
  const { kind } = change;
  let drains = false;
  let answer: { readonly said: Existed; readonly existed: boolean } | undefined;
  if (kind === "blind") {
    const existed = model.records.has(change.key);
    answer = { said: store.putBlind(bytes(change.key), bytes(change.value), index, 1), existed };
    model.put(change.key, change.value, index, 1);
  } else if (kind === "put" || kind === "only") {
    model.put(change.key, change.value, index, 2);
    const { created } = model.records.get(change.key)!;
    if (kind === "put") store.put(bytes(change.key), bytes(change.value), index, created, 2);
    else store.putOnly(bytes(change.key), bytes(change.value), index, created, 2);
  } else if (kind === "delete") {
    if (model.records.delete(change.key)) store.delete(bytes(change.key), index);
  } else if (kind === "clear") {
    store.raiseFloor(change.firstByte, index);
    model.clear(change.firstByte);
  } else drains = true;
  if (store.isDue || drains) store.freeze({ index, term: 1 }, bytes(`note ${index}`), drains);
  return answer;
}

/** Whether a call failed because a table or manifest is damaged. */
export function isCorrupt(error: unknown): boolean {
  return error instanceof CairnError && error.code === "CORRUPT";
}
