import { fromBinary } from "@bufbuild/protobuf";
import { type WatchEvent, WatchResponseSchema } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { type Change, changesOf } from "../../../src/machine/kv/effects/changes.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import type { Entry } from "../../../src/raft/types.js";
import type { WatchWish } from "../../../src/server/watch/hub.js";
import type { WatchSink } from "../../../src/server/watch/watch.js";
import type { WatchHost } from "../../../src/server/watch/watched_node.js";
import type { Clock } from "../../../src/system/clock.js";
import {
  type CommandInit,
  entry,
  inPieces,
  metaAt,
  payloadOf,
  uncheckedBytes,
} from "../../support/machines/machines.js";

/** A clock that moves when told to, and does what is to happen soon when told to. */
export class StepClock implements Clock {
  #now = 0;
  #soon: (() => void)[] = [];
  #timers: { readonly at: number; readonly run: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  soon(run: () => void): void {
    this.#soon.push(run);
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Lets everything happen that can happen without time passing. */
  async settle(): Promise<void> {
    for (let idle = 0; idle < 3; idle++) {
      const due = this.#soon.splice(0);
      if (due.length > 0) idle = 0;
      for (const run of due) run();
      // Reads from disk end within some promise jobs.
      for (let job = 0; job < 10; job++) await undefined;
    }
  }

  advance(ms: number): void {
    this.#now += ms;
    const due = this.#timers.filter(({ at }) => at <= this.#now);
    this.#timers = this.#timers.filter(({ at }) => at > this.#now);
    for (const { run } of due) run();
  }
}

/** A node with a machine in memory and a log that is trimmed, and kept in memory, as told. */
export class FakeNode implements WatchHost {
  machine = new MemoryMachine();
  readonly entries: Entry[] = [];
  /** All changes by index, as they were told right when they were applied. */
  readonly changes: Change[] = [];
  /** Reads of the disk so far. */
  reads = 0;
  /** First entry that is in memory. */
  inMemory = 1;
  #first = 1;
  #listener: () => void = () => {};

  readonly appliedLog: WatchHost["appliedLog"];

  constructor() {
    const node = this;
    this.appliedLog = {
      get first() {
        return node.#first;
      },
      recent: (first, last) => (first < this.inMemory ? undefined : this.#slice(first, Math.min(last, first + 9))),
      older: async (first, last) => {
        this.reads++;
        if (first < this.#first) throw new CairnError("OUT_OF_RANGE", "trimmed");
        return this.#slice(first, Math.min(last, first + 9));
      },
      onAdvance: (listener) => {
        this.#listener = listener;
        return () => {};
      },
    };
  }

  get applied(): number {
    return this.machine.appliedIndex;
  }

  apply(...commands: CommandInit[]): void {
    const first = this.applied + 1;
    const some = commands.map((init, at) => entry(first + at, uncheckedBytes(init), 1));
    this.entries.push(...some);
    this.machine.apply(some);
    const { history } = this.machine;
    const from = Math.max(first, history.since);
    if (from <= this.applied) {
      const effects = history.effects([from, this.applied]);
      for (const each of this.#slice(from, this.applied))
        this.changes.push(...changesOf(each, effects.get(each.index)));
    }
    this.#listener();
  }

  trim(index: number): void {
    this.#first = Math.max(this.#first, index + 1);
    this.inMemory = Math.max(this.inMemory, this.#first);
    this.machine.logTrimmed(index);
  }

  /** The node installs a snapshot that is `count` entries ahead. */
  async install(...commands: CommandInit[]): Promise<void> {
    const ahead = new MemoryMachine();
    ahead.apply(this.entries);
    const first = this.entries.length + 1;
    const some = commands.map((init, at) => entry(first + at, uncheckedBytes(init), 1));
    ahead.apply(some);
    this.entries.push(...some);
    const index = this.entries.length;
    this.#first = index + 1;
    this.inMemory = this.#first;
    await this.machine.restore(inPieces(await payloadOf(ahead), 100), metaAt({ index, term: 1 }));
    this.#listener();
  }

  #slice(first: number, last: number): Entry[] {
    return this.entries.slice(first - 1, last);
  }
}

/** A stream that takes so many answers as told, and keeps them. */
export class FakeSink implements WatchSink {
  readonly events: WatchEvent[] = [];
  /** The `through` of each answer. */
  readonly through: number[] = [];
  readonly encoded: Buffer[] = [];
  error: CairnError | undefined;
  #room: number;
  ready: () => void = () => {};

  constructor(room = Number.POSITIVE_INFINITY) {
    this.#room = room;
  }

  get isReady(): boolean {
    return this.#room > 0;
  }

  send(answer: Buffer): void {
    if (this.error !== undefined) throw new Error("an answer behind the end");
    const { events, through } = fromBinary(WatchResponseSchema, answer);
    this.events.push(...events);
    this.through.push(Number(through));
    this.encoded.push(answer);
    this.#room--;
  }

  end(error: CairnError): void {
    this.error = error;
  }

  /** Takes this many more answers. */
  take(room: number): void {
    const wasReady = this.isReady;
    this.#room = Math.max(0, this.#room) + room;
    if (!wasReady && this.isReady) this.ready();
  }
}

export const ALL: Omit<WatchWish, "start"> = {
  target: { type: "prefix", prefix: "" },
  filter: { previous: false, noPuts: false, noDeletes: false },
  progressMs: 60_000,
};

/** An event as `INDEX TYPE key=value`. */
export function shown({ index, deleted, kv }: WatchEvent): string {
  const type = deleted ? "deleted" : kv!.createVersion === 0n ? "put" : "created";
  return `${index} ${type} ${text(kv!.key)}=${text(kv!.value)}`;
}

/** A change in the same way. */
export function shownChange({ index, type, key, value }: Change): string {
  return `${index} ${type} ${text(key)}=${text(value)}`;
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
