import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import type { SessionLimits } from "../../../src/machine/kv/session_limits.js";
import type { ApplyResult } from "../../../src/machine/state_machine.js";
import type { Entry, SnapshotMeta } from "../../../src/raft/types.js";

/** Who is told what happens to a state. */
export interface MachineObserver {
  applied(entries: readonly Entry[], results: readonly ApplyResult<CommandResult>[]): void;
  /** A snapshot has been read, and its state takes so long to be built. */
  loading(): Promise<void>;
  restored(meta: SnapshotMeta): void;
}

/** A state as a process that dies leaves it on disk. */
export interface SavedState {
  readonly payload: Uint8Array;
  readonly index: number;
  readonly term: number;
}

/** The key-value machine in memory, with somebody who watches it. */
export class ObservedMachine extends MemoryMachine {
  #saving: Promise<SavedState> | undefined;

  constructor(
    private readonly observer: MachineObserver,
    sessionLimits: SessionLimits,
  ) {
    super(sessionLimits);
  }

  /** The state as {@link save} left it. */
  static async from(
    saved: SavedState | undefined,
    observer: MachineObserver,
    sessionLimits: SessionLimits,
  ): Promise<ObservedMachine> {
    const machine = new ObservedMachine(observer, sessionLimits);
    if (saved === undefined || saved.index === 0) return machine;
    const { payload, index, term } = saved;
    await machine.#load(payload, { index, term, membership: { index: 0, members: [] } });
    return machine;
  }

  override apply(entries: readonly Entry[]): readonly ApplyResult<CommandResult>[] {
    const results = super.apply(entries);
    this.observer.applied(entries, results);
    return results;
  }

  override async restore(payload: AsyncIterable<Uint8Array>, at: SnapshotMeta): Promise<void> {
    await super.restore(this.#slowly(payload), at);
    this.observer.restored(at);
  }

  async *#slowly(payload: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    yield* payload;
    await this.observer.loading();
  }

  /** Puts the state as it is now aside, for the process that comes after. */
  save(): Promise<SavedState> {
    this.#saving ??= payloadOf(this);
    return this.#saving;
  }

  override async close(): Promise<void> {
    await this.#saving?.catch(() => {});
    await super.close();
  }

  #load(payload: Uint8Array, at: SnapshotMeta): Promise<void> {
    return super.restore(piecesOf(payload), at);
  }
}

/** The payload of a machine's state as it is now. */
export async function payloadOf(machine: MemoryMachine): Promise<SavedState> {
  const view = await machine.capture();
  try {
    const pieces: Uint8Array[] = [];
    for await (const piece of view.payload()) pieces.push(Uint8Array.prototype.slice.call(piece));
    return { payload: Buffer.concat(pieces), index: view.appliedIndex, term: view.appliedTerm };
  } finally {
    view.release();
  }
}

/** Bytes as a payload that is read. */
export async function* piecesOf(payload: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  yield payload;
}
