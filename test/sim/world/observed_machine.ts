import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import type { KeyValueMachine } from "../../../src/machine/kv/key_value_machine.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import type { PayloadView } from "../../../src/machine/kv/payload_view.js";
import type { SessionLimits } from "../../../src/machine/kv/session_limits.js";
import type { ApplyResult } from "../../../src/machine/state_machine.js";
import { StoreMachine, type StoreMachineOptions } from "../../../src/machine/store_machine.js";
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

/** A key-value machine with somebody who watches it. */
export interface ObservedMachine extends KeyValueMachine {
  /** Puts the state as it is now aside, for the process that comes after. Left out where the disk keeps it. */
  save?(): Promise<SavedState>;
}

/** The machine on the store. */
export async function openObservedStore(
  options: StoreMachineOptions,
  observer: MachineObserver,
): Promise<ObservedMachine> {
  const machine = await StoreMachine.open(options);
  const apply = machine.apply.bind(machine);
  const restore = machine.restore.bind(machine);
  return Object.assign(machine, {
    apply(entries: readonly Entry[]) {
      const results = apply(entries);
      observer.applied(entries, results);
      return results;
    },
    async restore(payload: AsyncIterable<Uint8Array>, at: SnapshotMeta) {
      await restore(slowly(payload, observer), at);
      observer.restored(at);
    },
  });
}

/** The machine in memory. */
export class ObservedMemory extends MemoryMachine implements ObservedMachine {
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
  ): Promise<ObservedMemory> {
    const machine = new ObservedMemory(observer, sessionLimits);
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
    await super.restore(slowly(payload, this.observer), at);
    this.observer.restored(at);
  }

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

async function* slowly(
  payload: AsyncIterable<Uint8Array>,
  observer: MachineObserver,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield* payload;
  await observer.loading();
}

/** The payload of a machine's state as it is now. */
export async function payloadOf(machine: KeyValueMachine): Promise<SavedState> {
  const view = (await machine.capture()) as PayloadView;
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
