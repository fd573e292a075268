import { createHash } from "node:crypto";
import type { KeyValue } from "../../gen/cairn/v1/kv_pb.js";
import { limits } from "../../src/base/limits.js";

/** Facts that contradict each other: what the node did is not what it had promised. */
export class CrashFailure extends Error {
  override readonly name = "CrashFailure";

  constructor(
    what: string,
    readonly facts: Readonly<Record<string, unknown>>,
  ) {
    super(`${what}: ${JSON.stringify(facts)}`);
  }
}

export function check(condition: boolean, what: string, facts: Readonly<Record<string, unknown>>): asserts condition {
  if (!condition) throw new CrashFailure(what, facts);
}

/** A value, by the number of the write that made it; {@link bytesOf} gives its bytes. */
export interface Value {
  readonly write: number;
  readonly bytes: number;
}

/** What a key holds. */
interface Held extends Value {
  readonly version: number;
  readonly createVersion: number;
}

type State = Held | undefined;

export type Expected = { readonly value: Value } | { readonly version: number };

export type Operation =
  | { readonly kind: "put"; readonly value: Value }
  | { readonly kind: "delete" }
  | {
      readonly kind: "compare-and-set";
      readonly expected: Expected;
      readonly value: Value;
      readonly createIfMissing: boolean;
    };

/** A write that was sent and has no answer yet. */
export interface PendingWrite {
  readonly key: string;
  readonly operation: Operation;
  /** Whether an attempt ended without an answer, so that it may have taken effect. */
  unknown: boolean;
  /** Seen to have taken effect, though its answer was lost. */
  seen: boolean;
  /** Seen not to have taken effect up to this index. */
  notUpTo: number;
}

/** What an answer to a write said. */
export type WriteAnswer =
  | { readonly kind: "put"; readonly version: number }
  | { readonly kind: "delete"; readonly deleted: boolean; readonly appliedIndex: number }
  | {
      readonly kind: "compare-and-set";
      readonly swapped: false;
      readonly current: ReadKey | undefined;
      /** Of a retry: the long value that was there is not remembered, only its version. */
      readonly isValueForgotten: boolean;
    }
  | { readonly kind: "compare-and-set"; readonly swapped: true; readonly version: number };

/** A key as a read or a snapshot shows it. */
export interface ReadKey {
  readonly value: Uint8Array;
  readonly version: number;
  /** Undefined where the answer does not tell. */
  readonly createVersion: number | undefined;
}

export function readKey({ value, version, createVersion }: KeyValue): ReadKey {
  return { value, version: Number(version), createVersion: Number(createVersion) };
}

/** A change of a key. It took effect at an index of the log from `from` to `to`: a delete's answer does not name its index. */
interface Change {
  readonly from: number;
  readonly to: number;
  readonly state: State;
}

/** A key that one writer writes, one write at a time, and all that it has held. */
class Key {
  readonly changes: Change[] = [{ from: 0, to: 0, state: undefined }];
  pending: PendingWrite | undefined;

  constructor(readonly name: string) {}

  get last(): Change {
    return this.changes.at(-1)!;
  }
}

/** What a write does to a key, by the rules of the key-value machine; undefined: nothing. */
type Effect = { readonly value: Value } | "delete" | undefined;

/**
 * What the writes of a run may have led to. Each key has one writer with one write in flight, so its value is the last acknowledged one,
 * or that of the one later write whose outcome is unknown.
 */
export class CrashModel {
  readonly #keys = new Map<string, Key>();

  constructor(readonly names: readonly string[]) {
    for (const name of names) this.#keys.set(name, new Key(name));
  }

  isPending(name: string): boolean {
    return this.#key(name).pending !== undefined;
  }

  /** Writes whose outcome is unknown. */
  unknown(): PendingWrite[] {
    return [...this.#keys.values()].flatMap(({ pending }) => (pending?.unknown ? [pending] : []));
  }

  /** What the key holds. It must not be pending. */
  held(name: string): Readonly<Held> | undefined {
    return this.#key(name).last.state;
  }

  begin(name: string, operation: Operation): PendingWrite {
    const key = this.#key(name);
    key.pending = { key: name, operation, unknown: false, seen: false, notUpTo: 0 };
    return key.pending;
  }

  /** An attempt ended in a way that promises that nothing happened. */
  nothingHappened(write: PendingWrite): void {
    if (!write.unknown) this.#key(write.key).pending = undefined;
  }

  acknowledge(write: PendingWrite, answer: WriteAnswer): void {
    const key = this.#key(write.key);
    // A write that was seen has its change behind what it found.
    const { state: before } = write.seen ? key.changes.at(-2)! : key.last;
    const facts = {
      key: key.name,
      operation: write.operation,
      before,
      seen: write.seen && key.last,
      answer: shown(answer),
    };
    const effect = effectOf(write.operation, before);
    key.pending = undefined;
    check(answer.kind === write.operation.kind, "an answer is of its request's kind", facts);
    if (answer.kind === "delete") {
      check(answer.deleted === (effect === "delete"), "a delete says whether the key was there", facts);
      if (effect === "delete" && !write.seen) this.#delete(key, answer.appliedIndex, facts);
      return;
    }
    if (answer.kind === "compare-and-set" && !answer.swapped) {
      check(effect === undefined, "a compare-and-set that fits its key swaps", facts);
      const { current, isValueForgotten } = answer;
      const isLong = before !== undefined && before.bytes > limits.sessionValueBytes;
      check(
        !isValueForgotten || (write.unknown && isLong),
        "only a retry may not be told a value, and a long one",
        facts,
      );
      const isAsSaid = isValueForgotten ? current?.version === before?.version : sameAs(before, current);
      check(isAsSaid, "a compare-and-set that does not fit says what is there", facts);
      return;
    }
    const { version } = answer;
    check(version > write.notUpTo, "a write takes effect no earlier than where it was not seen yet", facts);
    check(
      effect !== undefined && effect !== "delete",
      "a compare-and-set that does not fit its key changes nothing",
      facts,
    );
    if (write.seen)
      check(version === key.last.to, "a retry gets the first attempt's answer, and has no second effect", facts);
    else this.#set(key, effect.value, version, facts);
  }

  /**
   * A linearizable read, while no write of the key was in flight (one of unknown outcome may be pending: the read decides whether it has
   * taken effect so far).
   */
  observe(name: string, read: ReadKey | undefined, appliedIndex: number): void {
    const key = this.#key(name);
    const { pending } = key;
    const facts = { key: name, read: shown(read), last: key.last, pending, appliedIndex };
    if (sameAs(key.last.state, read)) {
      if (pending !== undefined && !pending.seen) pending.notUpTo = appliedIndex;
      return;
    }
    check(pending !== undefined && !pending.seen, "a key holds what was last acknowledged", facts);
    const effect = effectOf(pending.operation, key.last.state);
    check(effect !== undefined, "a key holds what was last acknowledged: the pending write changes nothing", facts);
    pending.seen = true;
    if (effect === "delete") {
      check(read === undefined, "a key holds what was acknowledged, or was deleted", facts);
      this.#delete(key, appliedIndex, facts);
      return;
    }
    check(read !== undefined, "a key holds what was last acknowledged, or what the pending write has put", facts);
    this.#set(key, effect.value, read.version, facts);
    check(
      sameAs(key.last.state, read),
      "a key holds what was last acknowledged, or what the pending write has put",
      facts,
    );
  }

  /** Checks the keys of a snapshot at `index` against what each of them may have held there. */
  checkStateAt(index: number, keys: ReadonlyMap<string, ReadKey>): void {
    for (const name of keys.keys())
      check(this.#keys.has(name), "a snapshot holds only keys that were written", { name, index });
    for (const key of this.#keys.values()) {
      const read = keys.get(key.name);
      const matches = possibleAt(key, index).some((state) => sameAs(state, read));
      const facts = { key: key.name, index, read: shown(read), changes: key.changes.slice(-5), pending: key.pending };
      check(matches || this.#isPendingEffect(key, index, read), "a snapshot holds the state at its index", facts);
    }
  }

  /** Whether a snapshot may show what the pending write has done, before anybody has read it. */
  #isPendingEffect(key: Key, index: number, read: ReadKey | undefined): boolean {
    if (key.pending === undefined || key.pending.seen || index <= key.last.to) return false;
    const effect = effectOf(key.pending.operation, key.last.state);
    if (effect === undefined) return false;
    if (effect === "delete") return read === undefined;
    if (read === undefined || read.version <= key.last.to || read.version > index) return false;
    return sameBytes(effect.value, read.value);
  }

  #set(key: Key, value: Value, version: number, facts: Readonly<Record<string, unknown>>): void {
    check(version > key.last.to, "versions never fall", facts);
    const createVersion = key.last.state?.createVersion ?? version;
    key.changes.push({ from: version, to: version, state: { ...value, version, createVersion } });
  }

  /** The key was deleted by an entry up to `appliedIndex`, and behind all that was answered before. */
  #delete(key: Key, appliedIndex: number, facts: Readonly<Record<string, unknown>>): void {
    check(appliedIndex > key.last.to, "a delete is applied behind the write before it", facts);
    key.changes.push({ from: key.last.to + 1, to: appliedIndex, state: undefined });
  }

  #key(name: string): Key {
    return this.#keys.get(name)!;
  }
}

/** The last state that was surely in force at `index`, and those that may have been. */
function possibleAt({ changes }: Key, index: number): State[] {
  const surely = changes.findLastIndex(({ to }) => to <= index);
  return changes
    .slice(surely)
    .filter(({ from }) => from <= index)
    .map(({ state }) => state);
}

function effectOf(operation: Operation, before: State): Effect {
  if (operation.kind === "put") return { value: operation.value };
  if (operation.kind === "delete") return before === undefined ? undefined : "delete";
  const { expected, value, createIfMissing } = operation;
  if (before === undefined) {
    const expectsNone = "version" in expected && expected.version === 0;
    return createIfMissing || expectsNone ? { value } : undefined;
  }
  const fits = "version" in expected ? expected.version === before.version : sameBytes(expected.value, bytesOf(before));
  return fits ? { value } : undefined;
}

function sameAs(state: State, read: ReadKey | undefined): boolean {
  if (state === undefined || read === undefined) return state === read;
  const { version, createVersion = state.createVersion, value } = read;
  return version === state.version && createVersion === state.createVersion && sameBytes(state, value);
}

function sameBytes(value: Value, read: Uint8Array): boolean {
  return read.byteLength === value.bytes && Buffer.compare(bytesOf(value), read) === 0;
}

/** The bytes of a value: its write's digest again and again, so that every byte tells which write it is of. */
export function bytesOf({ write, bytes }: Value): Buffer {
  if (bytes === 0) return Buffer.alloc(0);
  return Buffer.alloc(bytes, createHash("sha256").update(String(write)).digest());
}

/** An answer or a read for a message, without its bytes. */
function shown(what: WriteAnswer | ReadKey | undefined): unknown {
  if (what === undefined) return "absent";
  if ("value" in what) return { ...what, value: `${what.value.byteLength} bytes` };
  return "current" in what ? { ...what, current: shown(what.current) } : what;
}
