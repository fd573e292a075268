import type { CommandResult } from "../../../../gen/cairn/v1/storage_pb.js";

// Makes and encodes the results that most commands have: an outcome, an index, and perhaps a value
// with its version.

const OUTCOME_TAG = 0x08;
const INDEX_TAG = 0x10;
const VERSION_TAG = 0x20;

/** Bytes of the fields of a result without a value. */
const FIELD_BYTES = 4 * 11;
const scratch = new Uint8Array(FIELD_BYTES);

/** Makes a plain result. */
export function plainResult(
  outcome: CommandResult["outcome"],
  index: number,
  value: Uint8Array,
  version: number,
): CommandResult {
  return {
    $typeName: "cairn.v1.CommandResult",
    outcome,
    index: BigInt(index),
    value,
    version: version === 0 ? 0n : BigInt(version),
    valueForgotten: false,
    createVersion: 0n,
    deleted: 0n,
    records: [],
    more: false,
    succeeded: false,
    results: [],
    limit: "",
    leaseId: 0n,
    leases: [],
  };
}

/** Encodes a result, if it is a plain one without a value. */
export function hotResultBytes(result: CommandResult): Uint8Array | undefined {
  if (!isPlain(result)) return undefined;
  let at = 0;
  if (result.outcome !== 0) {
    scratch[at++] = OUTCOME_TAG;
    at = putVarint(result.outcome, at);
  }
  if (result.index !== 0n) {
    scratch[at++] = INDEX_TAG;
    at = putVarint(Number(result.index), at);
  }
  if (result.version !== 0n) {
    scratch[at++] = VERSION_TAG;
    at = putVarint(Number(result.version), at);
  }
  return scratch.slice(0, at);
}

function isPlain(result: CommandResult): boolean {
  const { outcome, index, version } = result;
  const areSmall = outcome >= 0 && index <= Number.MAX_SAFE_INTEGER && version <= Number.MAX_SAFE_INTEGER;
  if (!areSmall || result.value.byteLength > 0 || result.$unknown !== undefined) return false;
  if (result.valueForgotten || result.more || result.succeeded || result.limit !== "") return false;
  if (result.createVersion !== 0n || result.deleted !== 0n || result.leaseId !== 0n) return false;
  return result.records.length === 0 && result.results.length === 0 && result.leases.length === 0;
}

function putVarint(value: number, at: number): number {
  let end = at;
  let rest = value;
  while (rest >= 0x80) {
    scratch[end++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  scratch[end++] = rest;
  return end;
}
