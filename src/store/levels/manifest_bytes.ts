import { createHash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type StoreManifest as ManifestMessage,
  type StoreRules as RulesMessage,
  type StoreRun as RunMessage,
  StoreManifestSchema,
  type StoreTable as TableMessage,
} from "../../../gen/cairn/v1/store_pb.js";
import { CairnError } from "../../base/errors.js";
import type { StoreRules } from "../rules/rules.js";
import type { TableInfo } from "../tables/format.js";
import type { Manifest, Run } from "./manifest.js";

// The bytes of a manifest's file: magic, format version, message, SHA-256 of all before it.

const MAGIC = Buffer.from("CAIRNMAN\x01\0\0\0", "latin1");
const DIGEST_BYTES = 32;

/** Encodes a manifest: the same bytes for the same manifest. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const message = toBinary(StoreManifestSchema, toMessage(manifest));
  const bytes = Buffer.alloc(MAGIC.byteLength + message.byteLength + DIGEST_BYTES);
  bytes.set(MAGIC, 0);
  bytes.set(message, MAGIC.byteLength);
  const end = MAGIC.byteLength + message.byteLength;
  bytes.set(digestOf(bytes.subarray(0, end)), end);
  return bytes;
}

/** Decodes a manifest's file. @throws CairnError CORRUPT, with the file's name */
export function decodeManifest(bytes: Uint8Array, path: string): Manifest {
  const end = bytes.byteLength - DIGEST_BYTES;
  if (end < MAGIC.byteLength) throw corrupt(path, `has ${bytes.byteLength} bytes: it was cut short`);
  if (!digestOf(bytes.subarray(0, end)).equals(bytes.subarray(end))) {
    throw corrupt(path, "does not have the SHA-256 at its end");
  }
  // The digest is right, so its writer wrote it like this.
  if (!MAGIC.equals(bytes.subarray(0, MAGIC.byteLength)))
    throw corrupt(path, "has a format that this version does not know");
  try {
    return checked(fromMessage(fromBinary(StoreManifestSchema, bytes.subarray(MAGIC.byteLength, end))));
  } catch (error) {
    throw corrupt(path, `has contents that do not fit together: ${CairnError.from(error).text}`);
  }
}

function digestOf(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

function corrupt(path: string, text: string): CairnError {
  return new CairnError("CORRUPT", `the manifest ${path} ${text}`);
}

function toMessage(manifest: Manifest): ManifestMessage {
  const { rules, position, step, levels, base, sweeps, floors, nextTable, note } = manifest;
  return create(StoreManifestSchema, {
    rules: {
      ...rules,
      flushBytes: BigInt(rules.flushBytes),
      cutSeed: rules.seeds[0],
      filterSeed: rules.seeds[1],
    },
    index: BigInt(position.index),
    term: BigInt(position.term),
    step: BigInt(step),
    levels: levels.map((runs) => ({ runs: runs.map(runToMessage) })),
    base: runToMessage(base),
    sweeps: sweeps.map((sweep) => ({ ...sweep, output: sweep.output.map(tableToMessage) })),
    floors: floors.map(({ firstByte, version, table }) => {
      return { firstByte, version: BigInt(version), table: BigInt(table) };
    }),
    nextTable: BigInt(nextTable),
    note,
  });
}

function runToMessage({ low, tables }: Run) {
  return { low, tables: tables.map(tableToMessage) };
}

function tableToMessage({ number, id, bytes, records, deletes, first, last }: TableInfo) {
  return {
    ...{ number: BigInt(number), bytes: BigInt(bytes), records: BigInt(records), deletes: BigInt(deletes) },
    ...{ id, first, last },
  };
}

function fromMessage(message: ManifestMessage): Manifest {
  return {
    rules: rulesFrom(message.rules),
    position: { index: count(message.index), term: count(message.term) },
    step: count(message.step),
    levels: message.levels.map(({ runs }) => runs.map(runFrom)),
    base: runFrom(message.base),
    sweeps: message.sweeps.map(({ level, inputs, toBase, output }) => {
      return { level, inputs, toBase, output: output.map(tableFrom) };
    }),
    floors: message.floors.map(({ firstByte, version, table }) => {
      return { firstByte, version: count(version), table: count(table) };
    }),
    nextTable: count(message.nextTable),
    note: message.note,
  };
}

function rulesFrom(message: RulesMessage | undefined): StoreRules {
  if (message === undefined) throw new Error("no rules");
  const { $typeName: _type, $unknown, cutSeed, filterSeed, flushBytes, ...rules } = message;
  return { ...rules, flushBytes: count(flushBytes), seeds: [cutSeed, filterSeed] };
}

function runFrom(message: RunMessage | undefined): Run {
  if (message === undefined) throw new Error("no base");
  return { low: message.low, tables: message.tables.map(tableFrom) };
}

function tableFrom({ number, id, bytes, records, deletes, first, last }: TableMessage): TableInfo {
  return {
    ...{ number: count(number), bytes: count(bytes), records: count(records), deletes: count(deletes) },
    ...{ id, first, last },
  };
}

function count(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Error(`${value} is too large`);
  return Number(value);
}

/** Refuses a manifest that no step can have made. */
function checked(manifest: Manifest): Manifest {
  const { rules, levels, sweeps, base, nextTable } = manifest;
  if (rules.version !== 1) throw new Error(`rules of version ${rules.version}`);
  const numbers = new Set<number>();
  const check = (tables: readonly TableInfo[]) => {
    for (const [at, table] of tables.entries()) {
      if (table.number >= nextTable) throw new Error(`table ${table.number} is not below ${nextTable}`);
      if (numbers.has(table.number)) throw new Error(`table ${table.number} is named twice`);
      numbers.add(table.number);
      const isInOrder = at === 0 || Buffer.compare(tables[at - 1]!.last, table.first) < 0;
      if (table.first.byteLength === 0 || !isInOrder) throw new Error(`table ${table.number} is out of order`);
    }
  };
  for (const { tables } of levels.flat()) check(tables);
  check(base.tables);
  for (const { level, inputs, output } of sweeps) {
    if (inputs === 0 || inputs > (levels[level]?.length ?? 0))
      throw new Error(`a sweep of ${inputs} runs of level ${level}`);
    check(output);
  }
  return manifest;
}
