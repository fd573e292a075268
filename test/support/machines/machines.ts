import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { onTestFinished } from "vitest";
import { type CommandResult, CommandSchema } from "../../../gen/cairn/v1/storage_pb.js";
import { encodeResult } from "../../../src/machine/kv/command.js";
import type { KeyValueMachine } from "../../../src/machine/kv/key_value_machine.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import { ANSWER_RULES, NEWEST_RULES, type SessionLimits } from "../../../src/machine/kv/session_limits.js";
import { LmdbMachine, type LmdbMachineOptions } from "../../../src/machine/lmdb_machine.js";
import { StoreMachine, type StoreMachineOptions } from "../../../src/machine/store_machine.js";
import type { Entry, EntryType, LogPosition, SnapshotMeta } from "../../../src/raft/types.js";
import type { StoreRules } from "../../../src/store/rules/rules.js";
import { DEFAULT_RULES } from "../../../src/store/rules/v1.js";
import { storeFactory } from "../../../src/store/store.js";
import { FaultyFileSystem } from "../disk/faulty_fs.js";
import { temporaryDirectory } from "../disk/temporary_directory.js";
import { ModelStores } from "../store/model_store.js";

export type CommandInit = MessageInitShape<typeof CommandSchema>;
type Operation = NonNullable<CommandInit["operation"]>;
type Txn = Extract<Operation, { case: "txn" }>["value"];
export type ComparisonInit = NonNullable<Txn["compare"]>[number];
export type StepInit = NonNullable<NonNullable<Txn["then"]>[number]["operation"]>;

/** Makes a new machine; it and its directory are gone when the test ends. */
export type MakeMachine = (sessionLimits?: SessionLimits) => Promise<KeyValueMachine>;

/** Rules by which a few dozen small entries make a flush point, and a few flush points a sweep. */
export const TINY_RULES: StoreRules = {
  ...DEFAULT_RULES,
  flushBytes: 2048,
  pageBytes: 256,
  blockBytesMin: 512,
  blockBytesMax: 2048,
  blockBits: 2,
  tableBytesMin: 4096,
  tableBytesMax: 16_384,
  tableBits: 1,
  seeds: [7, 11],
};

/** Rules with a flush point at each so many bytes; pages, blocks and tables are tiny if that is. */
function rulesFlushing(flushBytes: number): StoreRules {
  if (flushBytes < DEFAULT_RULES.blockBytesMin) return { ...TINY_RULES, flushBytes };
  return { ...DEFAULT_RULES, flushBytes, tableBytesMin: flushBytes, tableBytesMax: 2 * flushBytes, seeds: [7, 11] };
}

interface MachineKind {
  readonly kind: string;
  readonly make: MakeMachine;
}

/** All machines; those on a store have a flush point at each so many bytes. */
export const machinesFlushing = (flushBytes: number): readonly MachineKind[] => [
  { kind: "memory", make: async (sessionLimits) => new MemoryMachine(sessionLimits) },
  { kind: "LMDB", make: async (sessionLimits) => openLmdb({ directory: await temporaryDirectory(), sessionLimits }) },
  {
    kind: "store's model",
    make: async (sessionLimits) => {
      const stores = new ModelStores({ flushBytes });
      return openStore({ directory: await temporaryDirectory(), sessionLimits, stores });
    },
  },
  {
    kind: "store",
    make: async (sessionLimits) => openStore(storeOptions({ sessionLimits, rules: rulesFlushing(flushBytes) })),
  },
];

/** All machines; those on a store have flush points all the time. */
export const machines = machinesFlushing(2048);

/** Options of a machine on a real store, on a disk in memory. */
export function storeOptions({
  fs = new FaultyFileSystem(["/data"]),
  rules = TINY_RULES,
  ...options
}: Partial<StoreMachineOptions> & { readonly rules?: StoreRules } = {}): StoreMachineOptions {
  return { directory: "/data/state", fs, stores: storeFactory({ fs, rules, cacheBytes: 16 * 1024 }), ...options };
}

/** Opens a machine on a store that is closed when the test ends, if it is not by then. */
export async function openStore(options: StoreMachineOptions): Promise<StoreMachine> {
  const machine = await StoreMachine.open(options);
  onTestFinished(() => machine.crash());
  return machine;
}

/** Opens a machine that is closed when the test ends, if it is not by then. */
export async function openLmdb(options: LmdbMachineOptions): Promise<LmdbMachine> {
  const machine = await LmdbMachine.open(options);
  onTestFinished(() => machine.crash());
  return machine;
}

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (data: Uint8Array | undefined): string | undefined => data && Buffer.from(data).toString();

export const put = (key: string, value: string): Operation => ({
  case: "put",
  value: { key: bytes(key), value: bytes(value) },
});
/** A put that attaches the key to a lease. */
export const leasedPut = (key: string, value: string, lease: number): Operation => ({
  case: "put",
  value: { key: bytes(key), value: bytes(value), leaseId: BigInt(lease) },
});
export const grant = (ttlMs = 10_000): Operation => ({ case: "leaseGrant", value: { ttlMs } });
export const keepAlive = (...leases: number[]): Operation => ({
  case: "leaseKeepAlive",
  value: { leaseIds: leases.map(BigInt) },
});
export const revoke = (lease: number): Operation => ({ case: "leaseRevoke", value: { leaseId: BigInt(lease) } });
/** Ends leases, each only if it has exactly so many keep-alives. */
export const expire = (...leases: [lease: number, keepAlives: number][]): Operation => ({
  case: "leaseExpire",
  value: { leases: leases.map(([id, count]) => ({ leaseId: BigInt(id), keepAlives: BigInt(count) })) },
});
/** A flush point. */
export const flushPoint = (drain = false): Operation => ({ case: "store", value: { drain } });
export const del = (key: string): Operation => ({ case: "delete", value: { key: bytes(key) } });
export const getCommand = (key: string): Operation => ({ case: "get", value: { key: bytes(key) } });
export const load = (...pairs: [string, string][]): Operation => ({
  case: "load",
  value: { pairs: pairs.map(([key, value]) => ({ key: bytes(key), value: bytes(value) })) },
});
export const cas = (key: string, expected: string | number, newValue: string, createIfMissing = false): Operation => ({
  case: "compareAndSet",
  value: {
    key: bytes(key),
    expected:
      typeof expected === "string"
        ? { case: "value", value: bytes(expected) }
        : { case: "version", value: BigInt(expected) },
    newValue: bytes(newValue),
    createIfMissing,
  },
});
/** A transaction of all comparisons, and of the steps for when they hold and for when they do not. */
export const txn = (compare: ComparisonInit[], then: StepInit[], otherwise: StepInit[] = []): Operation => ({
  case: "txn",
  value: {
    compare,
    then: then.map((operation) => ({ operation })),
    otherwise: otherwise.map((operation) => ({ operation })),
  },
});

/** A command without a request id that names the newest rules, as a server proposes a transaction. */
export const newest = (operation: Operation): CommandInit => ({ rules: NEWEST_RULES, operation });

/** A command with a request id, as a server of this version proposes it. */
export const request = (
  clientId: string,
  sequence: number,
  operation: Operation,
  acknowledgedThrough = 0,
  since = 0,
): CommandInit => ({
  rules: ANSWER_RULES,
  requestId: {
    clientId,
    sequence: BigInt(sequence),
    acknowledgedThrough: BigInt(acknowledgedThrough),
    since: BigInt(since),
  },
  operation,
});

/** The same, as a server proposed it that knew only the first rules for remembered answers. */
export const countedRequest = (...args: Parameters<typeof request>): CommandInit => ({ ...request(...args), rules: 0 });

/** Command bytes with no check on the way, as a faulty leader might have written them. */
export const uncheckedBytes = (init: CommandInit): Uint8Array => toBinary(CommandSchema, create(CommandSchema, init));

export function entry(index: number, data: Uint8Array, term = 1, type: EntryType = "command"): Entry {
  return { index, term, type, data };
}

/** Applies bytes as the next entry. */
export function applyBytes(machine: KeyValueMachine, data: Uint8Array, term = 1): CommandResult {
  const results = machine.apply([entry(machine.appliedIndex + 1, data, term)]);
  return results[0]!.result!;
}

/** Applies a command as the next entry. */
export function applyCommand(machine: KeyValueMachine, init: CommandInit, term = 1): CommandResult {
  return applyBytes(machine, uncheckedBytes(init), term);
}

export function applyOperation(machine: KeyValueMachine, operation: Operation): CommandResult {
  return applyCommand(machine, { operation });
}

/** Applies no-ops up to an index. */
export function skipTo(machine: KeyValueMachine, index: number, term = 1): void {
  const entries: Entry[] = [];
  for (let at = machine.appliedIndex + 1; at <= index; at++) entries.push(entry(at, new Uint8Array(0), term, "no-op"));
  machine.apply(entries);
}

export const resultHex = (result: CommandResult | undefined): string | undefined =>
  result && Buffer.from(encodeResult(result)).toString("hex");

export async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = [];
  for await (const piece of pieces) copies.push(Buffer.from(piece));
  return Buffer.concat(copies);
}

/** The payload of the machine's present state. */
export async function payloadOf(machine: KeyValueMachine): Promise<Buffer> {
  const view = await machine.capture();
  try {
    return await collect(view.payload());
  } finally {
    view.release();
  }
}

/** The same bytes in pieces. */
export async function* inPieces(data: Uint8Array, pieceBytes: number): AsyncGenerator<Uint8Array, void, undefined> {
  for (let from = 0; from < data.byteLength; from += pieceBytes) yield data.subarray(from, from + pieceBytes);
}

export function metaAt({ index, term }: LogPosition): SnapshotMeta {
  return { index, term, membership: { index: 0, members: [] } };
}

/** All keys and values of the present state, in order, with the lease of those that have one. */
export function contents(machine: KeyValueMachine): string[] {
  return [...machine.range()].map(({ key, value, version, lease }) => {
    return `${text(key)}=${text(value)}@${version}${lease === undefined ? "" : ` of lease ${lease}`}`;
  });
}

/** All leases of the present state, each with its keys. */
export function leasesOf(machine: KeyValueMachine): string[] {
  return machine.leases(0, 1_000).map(({ id, ttlMs, keepAlives, keys }) => {
    const names = machine.leaseKeys(id).map(text);
    if (names.length !== keys) throw new Error(`lease ${id} counts ${keys} keys, and has ${names.length}`);
    return `${id}: ${ttlMs} ms, ${keepAlives} keep-alives, keys ${names}`;
  });
}
