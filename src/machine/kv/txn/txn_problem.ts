import {
  ComparisonOperator,
  type TxnComparison,
  type TxnOperation,
  type TxnStep,
} from "../../../../gen/cairn/v1/storage_pb.js";
import { counterProblem } from "../../../base/counters.js";
import { type Problem, problemOfKey, problemOfValue } from "../../../base/key_checks.js";
import { keyName } from "../../../base/key_name.js";
import { limits } from "../../../base/limits.js";
import { problemOfLeaseId } from "../leases/lease_problem.js";
import { boundsOf, isWithin, type KeyBounds, problemOfSpan } from "./key_span.js";

/** Describes why a transaction must not be carried out; undefined when it may. */
export function problemOfTxn({ compare, then, otherwise }: TxnOperation): Problem | undefined {
  if (compare.length + then.length + otherwise.length === 0) {
    return invalid("the transaction is empty: give comparisons, or operations");
  }
  return (
    tooMany("compare", compare.length, "txnComparisons") ??
    tooMany("then", then.length, "txnOperations") ??
    tooMany("otherwise", otherwise.length, "txnOperations") ??
    firstProblem("compare", compare, problemOfComparison) ??
    firstProblem("then", then, problemOfStep) ??
    firstProblem("otherwise", otherwise, problemOfStep) ??
    problemOfChanges("then", then) ??
    problemOfChanges("otherwise", otherwise)
  );
}

function tooMany(list: string, count: number, limit: "txnComparisons" | "txnOperations"): Problem | undefined {
  if (count <= limits[limit]) return undefined;
  const text = `${list} of the transaction has ${count} items; the limit ${limit} is ${limits[limit]}`;
  return { code: "LIMIT_EXCEEDED", limit, text };
}

function firstProblem<Item>(
  list: string,
  items: readonly Item[],
  problemOf: (item: Item) => Problem | undefined,
): Problem | undefined {
  for (const [at, item] of items.entries()) {
    const problem = problemOf(item);
    if (problem !== undefined) return { ...problem, text: `${list}[${at}] of the transaction: ${problem.text}` };
  }
  return undefined;
}

function problemOfComparison({ key, keys, expected, operator }: TxnComparison): Problem | undefined {
  if (keys !== undefined && key.byteLength > 0) return invalid("it has a key and also keys: give the one or the other");
  const problem = keys === undefined ? problemOfKey(key) : problemOfSpan(keys);
  if (problem !== undefined) return problem;
  switch (operator) {
    case ComparisonOperator.UNSPECIFIED:
    case ComparisonOperator.EQUAL:
    case ComparisonOperator.NOT_EQUAL:
      break;
    case ComparisonOperator.LESS:
    case ComparisonOperator.GREATER:
      if (expected.case === "value" || expected.case === "exists") {
        return invalid(`${expected.case} cannot be compared with LESS or GREATER: use EQUAL or NOT_EQUAL`);
      }
      break;
    default:
      return invalid(`operator ${operator} is none that this version knows`);
  }
  if (expected.case === undefined) {
    return invalid("expected is missing: give the value, version, create_version or exists to compare with");
  }
  return expected.case === "value" ? problemOfValue(expected.value) : undefined;
}

function problemOfStep({ operation }: TxnStep): Problem | undefined {
  switch (operation.case) {
    case "put": {
      const { key, value, leaseId } = operation.value;
      return problemOfKey(key) ?? problemOfValue(value) ?? problemOfLeaseId(leaseId);
    }
    case "delete":
      if (operation.value.ifVersion !== undefined) {
        return invalid("delete has if_version: compare the version in the transaction instead");
      }
      return problemOfKey(operation.value.key);
    case "get":
      return problemOfKey(operation.value.key);
    case "deleteRange":
      return problemOfSpan(operation.value.keys);
    case "range": {
      const wrong = counterProblem(operation.value.limit, "countMax");
      return wrong === undefined ? problemOfSpan(operation.value.keys) : invalid(`limit is ${wrong}`);
    }
    default:
      return invalid("it is none of the operations that this version knows: put, delete, get, delete_range, range");
  }
}

/**
 * Finds a key that a list changes twice. All changes of a transaction have one version, so a key
 * and a version would name two of them.
 */
function problemOfChanges(list: string, steps: readonly TxnStep[]): Problem | undefined {
  const puts = new Map<string, { readonly at: number; readonly key: Uint8Array }>();
  for (const [at, { operation }] of steps.entries()) {
    if (operation.case !== "put") continue;
    const { key } = operation.value;
    const name = keyName(key);
    const earlier = puts.get(name);
    if (earlier !== undefined) return twice(list, earlier.at, at);
    puts.set(name, { at, key });
  }
  if (puts.size === 0) return undefined;
  for (const [at, { operation }] of steps.entries()) {
    const put =
      operation.case === "delete"
        ? puts.get(keyName(operation.value.key))
        : operation.case === "deleteRange"
          ? putWithin(puts.values(), boundsOf(operation.value.keys!))
          : undefined;
    if (put !== undefined) return twice(list, Math.min(put.at, at), Math.max(put.at, at));
  }
  return undefined;
}

function putWithin<Put extends { readonly key: Uint8Array }>(puts: Iterable<Put>, bounds: KeyBounds): Put | undefined {
  for (const put of puts) if (isWithin(put.key, bounds)) return put;
  return undefined;
}

function twice(list: string, first: number, second: number): Problem {
  const text = `${list}[${first}] and ${list}[${second}] of the transaction change the same key: change a key at most once`;
  return invalid(text);
}

function invalid(text: string): Problem {
  return { code: "INVALID_ARGUMENT", text };
}
