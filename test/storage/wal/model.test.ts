import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type Entry,
  type HardState,
  INITIAL_HARD_STATE,
  LOG_START,
  type LogPosition,
} from "../../../src/raft/types.js";
import { WriteAheadLog } from "../../../src/storage/wal/wal.js";
import { FaultyFileSystem } from "../../support/disk/faulty_fs.js";
import { seededRandom } from "../../support/random.js";
import { DIRECTORY, readAll } from "./support.js";

const SIZES = { segmentBytes: 2000, fillBytes: 512 };

/** The log as an array. */
class Model {
  boundary: LogPosition = LOG_START;
  entries: Entry[] = [];
  hardState: HardState = INITIAL_HARD_STATE;

  get last(): LogPosition {
    return this.entries.at(-1) ?? this.boundary;
  }
}

/** One random operation; numbers are fractions of what is possible when it is carried out. */
type Operation =
  | { kind: "append"; back: number; count: number; bytes: number; newTerm: boolean; vote: boolean; full: boolean }
  | { kind: "commit"; at: number }
  | { kind: "trim"; at: number }
  | { kind: "reset"; ahead: number }
  | { kind: "read"; low: number; high: number; maxBytes: number }
  | { kind: "reopen" }
  | { kind: "crash"; keep: "none" | "all" | "random" };

const fraction = fc.double({ min: 0, max: 1, noNaN: true });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      back: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fraction),
      count: fc.integer({ min: 0, max: 12 }),
      bytes: fc.integer({ min: 0, max: 400 }),
      newTerm: fc.boolean(),
      vote: fc.boolean(),
      full: fc.integer({ min: 0, max: 9 }).map((roll) => roll === 0),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("commit" as const), at: fraction }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("trim" as const), at: fraction }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reset" as const), ahead: fc.integer({ min: 0, max: 50 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("read" as const),
      low: fraction,
      high: fraction,
      maxBytes: fc.integer({ min: 0, max: 5000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("crash" as const),
      keep: fc.constantFrom("none" as const, "all" as const, "random" as const),
    }),
  },
);

/** A log and its model, side by side. */
class Pair {
  fs: FaultyFileSystem;
  readonly model = new Model();
  /** Commit that is durable; a higher one may be lost, or a trim undone, by a power failure. */
  #durableCommit = 0;
  #durableBoundary: LogPosition = LOG_START;
  #log: WriteAheadLog | undefined;

  constructor(private readonly random: () => number) {
    this.fs = this.#nowAndThenDirect(new FaultyFileSystem(["/data"]));
  }

  get log(): WriteAheadLog {
    return this.#log!;
  }

  async start(): Promise<void> {
    this.#log = await WriteAheadLog.create(
      { fs: this.fs, directory: DIRECTORY, ...SIZES },
      LOG_START,
      INITIAL_HARD_STATE,
    );
  }

  async run(operation: Operation): Promise<void> {
    if (operation.kind === "append") await this.#append(operation);
    else if (operation.kind === "commit") await this.#commit(operation.at);
    else if (operation.kind === "trim") await this.#trim(operation.at);
    else if (operation.kind === "reset") await this.#reset(operation.ahead);
    else if (operation.kind === "read") await this.#read(operation);
    else if (operation.kind === "reopen") await this.#reopen();
    else await this.#crash(operation.keep);
    await this.check();
  }

  async check(): Promise<void> {
    const { log, model } = this;
    expect(log.boundary).toEqual(model.boundary);
    expect(log.last).toEqual({ index: model.last.index, term: model.last.term });
    expect(log.hardState).toEqual(model.hardState);
    for (const { index, term } of model.entries) expect(log.termAt(index)).toBe(term);
    expect(log.termAt(model.boundary.index - 1)).toBe(undefined);
    expect(log.termAt(model.last.index + 1)).toBe(undefined);
    expectSame(await readAll(log), model.entries);
    expect(log.stats().diskBytes).toBe(this.fs.usedBytes);
  }

  async #append(operation: Operation & { kind: "append" }): Promise<void> {
    const { model } = this;
    // What is committed is never replaced.
    const wanted = model.last.index + 1 - Math.floor(operation.back * model.entries.length);
    const first = Math.max(wanted, model.hardState.commit + 1);
    const before =
      first - 1 === model.boundary.index ? model.boundary : model.entries.find((one) => one.index === first - 1)!;
    const replaced = first <= model.last.index;
    const term = Math.max(before.term, model.hardState.term, 1) + (operation.newTerm || replaced ? 1 : 0);
    const entries = Array.from({ length: operation.count }, (_, at): Entry => {
      const data = new Uint8Array(operation.bytes).fill(first + at + term);
      return { index: first + at, term, type: operation.bytes === 0 ? "no-op" : "command", data };
    });
    const hardState = operation.vote ? { term, vote: `node-${term % 3}`, commit: model.hardState.commit } : undefined;
    const batch = { entries, hardState: hardState ?? { ...model.hardState, term }, sync: true };
    if (operation.full) {
      this.fs.capacityBytes = this.fs.usedBytes;
      const isDone = await this.log.append(batch).then(() => true, expectDiskFull);
      this.fs.capacityBytes = Number.POSITIVE_INFINITY;
      if (!isDone) return;
    } else {
      await this.log.append(batch);
    }
    if (entries.length > 0) model.entries = [...model.entries.filter((one) => one.index < first), ...entries];
    model.hardState = batch.hardState;
    this.#allIsDurable();
  }

  async #commit(at: number): Promise<void> {
    const { model } = this;
    const index = model.boundary.index + Math.floor(at * model.entries.length);
    const hardState = { ...model.hardState, commit: Math.max(index, model.hardState.commit) };
    if (hardState.commit > model.last.index) return;
    await this.log.append({ entries: [], hardState, sync: false });
    model.hardState = hardState;
  }

  async #trim(at: number): Promise<void> {
    const { model } = this;
    const index = model.boundary.index + Math.floor(at * model.entries.length);
    await this.log.trim(index);
    const entry = model.entries.find((one) => one.index === index);
    if (entry !== undefined) model.boundary = { index, term: entry.term };
    model.entries = model.entries.filter((one) => one.index > index);
  }

  async #reset(ahead: number): Promise<void> {
    const { model } = this;
    const index = model.boundary.index + ahead;
    const position = { index, term: model.last.term + 1 };
    const hardState = { term: Math.max(model.hardState.term, position.term), vote: undefined, commit: index };
    await this.log.reset(position, hardState);
    Object.assign(model, { boundary: position, entries: [], hardState });
    this.#allIsDurable();
  }

  async #read(operation: Operation & { kind: "read" }): Promise<void> {
    const { entries } = this.model;
    if (entries.length === 0) return;
    const low = Math.floor(operation.low * (entries.length - 1));
    const high = low + Math.floor(operation.high * (entries.length - 1 - low));
    let left = operation.maxBytes;
    let end = low;
    while (end <= high && (end === low || left >= entries[end]!.data.byteLength + 32)) {
      left -= entries[end]!.data.byteLength + 32;
      end++;
    }
    const read = await this.log.entries(entries[low]!.index, entries[high]!.index, operation.maxBytes);
    expectSame(read, entries.slice(low, end));
  }

  async #reopen(): Promise<void> {
    await this.log.close();
    expect(this.fs.openFiles).toEqual([]);
    this.#log = (await WriteAheadLog.open({ fs: this.fs, directory: DIRECTORY, ...SIZES })).log;
    this.#allIsDurable();
  }

  /** Entries, term and vote were all synced; what a power failure may take back is a commit, or a trim. */
  async #crash(keep: "none" | "all" | "random"): Promise<void> {
    const { model } = this;
    this.fs = this.#nowAndThenDirect(this.fs.crash({ keep, random: this.random }));
    this.#log = (await WriteAheadLog.open({ fs: this.fs, directory: DIRECTORY, ...SIZES })).log;
    const { boundary, hardState } = this.log;
    expect(boundary.index).toBeGreaterThanOrEqual(this.#durableBoundary.index);
    expect(boundary.index).toBeLessThanOrEqual(model.boundary.index);
    const again = boundary.index < model.boundary.index ? await this.log.trim(model.boundary.index) : undefined;
    expect(again).toBe(undefined);
    expect(hardState.commit).toBeGreaterThanOrEqual(Math.min(this.#durableCommit, model.last.index));
    expect(hardState.commit).toBeLessThanOrEqual(model.hardState.commit);
    model.hardState = { ...model.hardState, commit: hardState.commit };
    await this.log.append({ entries: [], sync: true });
    this.#allIsDurable();
  }

  /** The disk is quick for some calls, and slow for others. */
  #nowAndThenDirect(fs: FaultyFileSystem): FaultyFileSystem {
    fs.isDirect = () => this.random() < 0.5;
    return fs;
  }

  #allIsDurable(): void {
    this.#durableCommit = this.model.hardState.commit;
    this.#durableBoundary = this.model.boundary;
  }
}

function expectDiskFull(error: unknown): false {
  expect(error).toMatchObject({ code: "DISK_FULL" });
  return false;
}

function expectSame(found: readonly Entry[], expected: readonly Entry[]): void {
  const plain = (entries: readonly Entry[]) =>
    entries.map(({ index, term, type, data }) => `${index}/${term} ${type} ${Buffer.from(data).toString("hex")}`);
  expect(plain(found)).toEqual(plain(expected));
}

test("any sequence of operations, restarts and power failures leaves the entries that an array would hold", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 1, maxLength: 60 }), fc.nat(), async (operations, seed) => {
      const pair = new Pair(seededRandom(seed));
      await pair.start();
      for (const one of operations) await pair.run(one);
      await pair.log.close();
      expect(pair.fs.openFiles).toEqual([]);
    }),
    { numRuns: 150 },
  );
});
