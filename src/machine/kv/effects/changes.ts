import type { Command, TxnStep } from "../../../../gen/cairn/v1/storage_pb.js";
import { assert } from "../../../base/assert.js";
import type { Entry } from "../../../raft/types.js";
import { decodeCommand } from "../command.js";
import type { Effects, ListedChange } from "./effects.js";

/** A change of one key. */
export interface Change {
  /** Index of the entry that made the change. */
  readonly index: number;
  readonly type: "put" | "created" | "deleted";
  readonly key: Uint8Array;
  /** Empty for a deleted key. */
  readonly value: Uint8Array;
  /** The lease that the key is attached to, or was removed with; 0: none. */
  readonly lease: number;
  /** Whether the key was removed because its lease has expired. */
  readonly isExpired: boolean;
}

/**
 * Returns the changes that an applied entry has made, in order. `effects`: the effects that are
 * noted for it. The bytes point into the entry. A load has no changes: the history starts behind
 * it.
 */
export function changesOf({ type, index, data }: Entry, effects: Effects | undefined): Change[] {
  if (type !== "command" || effects?.type === "nothing") return [];
  const operation = decodeCommand(data)?.operation;
  switch (operation?.case) {
    case "put":
    case "compareAndSet": {
      const { value: fields } = operation;
      const value = operation.case === "put" ? operation.value.value : operation.value.newValue;
      return [set(index, { key: fields.key, value, leaseId: fields.leaseId }, effects?.type === "created")];
    }
    case "delete":
      return [deleted(index, { key: operation.value.key, lease: 0, isExpired: false })];
    default:
      return effects === undefined || effects.type === "created" ? [] : listed(index, operation, effects);
  }
}

function listed(
  index: number,
  operation: Command["operation"] | undefined,
  { type, changes }: Exclude<Effects, { readonly type: "nothing" | "created" }>,
): Change[] {
  const isTxn = operation?.case === "txn" && type !== "removed";
  const steps = isTxn ? operation.value[type] : [];
  return changes.map((change) => {
    if (change.type === "deleted") return deleted(index, change);
    return set(index, putOf(steps[change.step]), change.type === "created");
  });
}

function putOf(step: TxnStep | undefined) {
  assert(step?.operation.case === "put", "the noted step of a transaction is a put", { step: step?.operation.case });
  return step.operation.value;
}

interface SetKey {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly leaseId: bigint;
}

function set(index: number, { key, value, leaseId }: SetKey, isNew: boolean): Change {
  return { index, type: isNew ? "created" : "put", key, value, lease: Number(leaseId), isExpired: false };
}

function deleted(index: number, removed: Pick<ListedChange & { type: "deleted" }, "key" | "lease" | "isExpired">) {
  const { key, lease, isExpired } = removed;
  return { index, type: "deleted", key, value: NO_BYTES, lease, isExpired } as const;
}

const NO_BYTES = new Uint8Array(0);
