import {
  type Command,
  ComparisonOperator,
  type KeySpan,
  type TxnComparison,
  type TxnStep,
} from "../../../../gen/cairn/v1/storage_pb.js";
import { decodeCommand } from "../../../machine/kv/command.js";

/** Steps and pairs of one command that are shown. */
const SHOWN_MAX = 8;

/**
 * Puts a command of the key-value machine into words: its keys, and sizes in place of values.
 * Undefined when the bytes are no such command.
 */
export function commandWords(data: Uint8Array): string | undefined {
  const command = decodeCommand(data);
  if (command === undefined) return undefined;
  const { requestId } = command;
  const words = operationWords(command.operation);
  return requestId === undefined ? words : `${words}  [${requestId.clientId} #${requestId.sequence}]`;
}

function operationWords(operation: Command["operation"]): string {
  switch (operation.case) {
    case "put":
      return putWords(operation.value);
    case "delete": {
      const { key, ifVersion } = operation.value;
      return `delete ${keyText(key)}${ifVersion === undefined ? "" : ` if version ${ifVersion}`}`;
    }
    case "get":
      return `get ${keyText(operation.value.key)}`;
    case "compareAndSet": {
      const { key, expected, newValue, leaseId } = operation.value;
      const condition =
        expected.case === "version" ? `version ${expected.value}` : `value of ${sizeText(expected.value)}`;
      return `compare-and-set ${keyText(key)} if ${condition}, to ${sizeText(newValue)}${leaseText(leaseId)}`;
    }
    case "load":
      return `load ${some(operation.value.pairs.map(({ key, value }) => `${keyText(key)} (${sizeText(value)})`))}`;
    case "txn": {
      const { compare, then, otherwise } = operation.value;
      const parts = [
        `if ${compare.length === 0 ? "nothing" : some(compare.map(comparisonWords))}`,
        `then ${then.length === 0 ? "nothing" : some(then.map(stepWords))}`,
        ...(otherwise.length === 0 ? [] : [`else ${some(otherwise.map(stepWords))}`]),
      ];
      return `txn ${parts.join(" ")}`;
    }
    case "leaseGrant":
      return `grant a lease of ${operation.value.ttlMs} ms`;
    case "leaseKeepAlive":
      return `keep leases ${some(operation.value.leaseIds.map(String))}`;
    case "leaseRevoke":
      return `revoke lease ${operation.value.leaseId}`;
    case "leaseExpire":
      return `end leases ${some(operation.value.leases.map(({ leaseId, keepAlives }) => `${leaseId} (after ${keepAlives} keep-alives)`))}`;
    default:
      return "nothing";
  }
}

function stepWords({ operation }: TxnStep): string {
  switch (operation.case) {
    case "put":
      return putWords(operation.value);
    case "delete":
      return `delete ${keyText(operation.value.key)}`;
    case "get":
      return `get ${keyText(operation.value.key)}`;
    case "deleteRange":
      return `delete ${spanText(operation.value.keys)}`;
    case "range":
      return `range ${spanText(operation.value.keys)}`;
    default:
      return "nothing";
  }
}

const operators: Readonly<Record<ComparisonOperator, string>> = {
  [ComparisonOperator.UNSPECIFIED]: "=",
  [ComparisonOperator.EQUAL]: "=",
  [ComparisonOperator.NOT_EQUAL]: "!=",
  [ComparisonOperator.LESS]: "<",
  [ComparisonOperator.GREATER]: ">",
};

function comparisonWords({ key, keys, expected, operator }: TxnComparison): string {
  const subject = keys === undefined ? keyText(key) : spanText(keys);
  const relation = operators[operator] ?? `operator ${operator}`;
  if (expected.case === "exists") return `${subject} ${expected.value ? "exists" : "is missing"}`;
  if (expected.case === "value") return `${subject} value ${relation} ${sizeText(expected.value)}`;
  if (expected.case === "version") return `${subject} version ${relation} ${expected.value}`;
  return `${subject} create version ${relation} ${expected.value}`;
}

function putWords({ key, value, leaseId }: { key: Uint8Array; value: Uint8Array; leaseId: bigint }): string {
  return `put ${keyText(key)} (${sizeText(value)})${leaseText(leaseId)}`;
}

function leaseText(leaseId: bigint): string {
  return leaseId === 0n ? "" : ` under lease ${leaseId}`;
}

function spanText(keys: KeySpan | undefined): string {
  if (keys === undefined) return "all keys";
  const { prefix, start, end } = keys;
  if (prefix.byteLength > 0) return `${keyText(prefix)}*`;
  if (start.byteLength === 0 && end.byteLength === 0) return "all keys";
  return `${start.byteLength === 0 ? "the first key" : keyText(start)}..${end.byteLength === 0 ? "the last key" : keyText(end)}`;
}

/** A key may hold anything, also what a terminal would obey. */
function keyText(key: Uint8Array): string {
  const text = Buffer.from(key).toString("utf8");
  if (!Buffer.from(text).equals(key)) return `0x${Buffer.from(key).toString("hex")}`;
  return /^[\p{L}\p{N}\p{P}\p{S}]+$/u.test(text) ? text : JSON.stringify(text);
}

function sizeText(value: Uint8Array | undefined): string {
  const bytes = value?.byteLength ?? 0;
  return bytes === 1 ? "1 byte" : `${bytes} bytes`;
}

function some(words: readonly string[]): string {
  const shown = words.slice(0, SHOWN_MAX).join(", ");
  return words.length > SHOWN_MAX ? `${shown} and ${words.length - SHOWN_MAX} more` : shown;
}
