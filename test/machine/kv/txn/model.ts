import { fromBinary } from "@bufbuild/protobuf";
import {
  type CommandResult,
  CommandSchema,
  ComparisonOperator,
  type KeySpan,
  type TxnComparison,
  type TxnOperation,
  type TxnStep,
} from "../../../../gen/cairn/v1/storage_pb.js";
import { type CommandInit, text, uncheckedBytes } from "../../../support/machines/machines.js";

// Transactions told a second time, in few words: over a copy of all keys, which replaces them in the end.

interface Row {
  readonly value: string;
  readonly version: number;
  readonly created: number;
}

/** What a step returns, for comparison by toEqual. */
export type StepOutcome =
  | { readonly put: true }
  | { readonly deleted: number }
  | {
      readonly read: readonly (readonly [key: string, value: string, version: number, created: number])[];
      more: boolean;
    };

export class TxnModel {
  #rows = new Map<string, Row>();

  /** Carries out the transaction of a command, which exceeds no limit. */
  apply(init: CommandInit, index: number): { readonly succeeded: boolean; readonly results: StepOutcome[] } {
    const { operation } = fromBinary(CommandSchema, uncheckedBytes(init));
    const { compare, then, otherwise } = operation.value as TxnOperation;
    const rows = new Map(this.#rows);
    const succeeded = compare.every((each) => holds(rows, each));
    const results = (succeeded ? then : otherwise).map((step) => carryOut(rows, step, index));
    this.#rows = rows;
    return { succeeded, results };
  }

  contents(): string[] {
    return [...this.#rows]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, { value, version }]) => `${key}=${value}@${version}`);
  }
}

/** Returns a machine's result in the model's terms. */
export function outcomeOf(init: CommandInit, { succeeded, results }: CommandResult) {
  const { operation } = fromBinary(CommandSchema, uncheckedBytes(init));
  const { then, otherwise } = operation.value as TxnOperation;
  const steps = succeeded ? then : otherwise;
  return { succeeded, results: results.map((result, at) => stepOutcome(steps[at]!, result)) };
}

function stepOutcome({ operation }: TxnStep, result: CommandResult): StepOutcome {
  const { outcome, value, version, createVersion, deleted, records, more } = result;
  switch (operation.case) {
    case "put":
      return { put: true };
    case "delete":
      return { deleted: outcome === 1 ? 1 : 0 };
    case "deleteRange":
      return { deleted: Number(deleted) };
    case "range":
      return {
        read: records.map((r) => [text(r.key)!, text(r.value)!, Number(r.version), Number(r.createVersion)]),
        more,
      };
    default: {
      const key = text((operation.value as { key: Uint8Array }).key)!;
      return { read: outcome === 1 ? [[key, text(value)!, Number(version), Number(createVersion)]] : [], more: false };
    }
  }
}

function holds(rows: Map<string, Row>, comparison: TxnComparison): boolean {
  const { key, keys, expected, operator } = comparison;
  const inSpan = keys === undefined ? [] : keysOf(rows, keys);
  if (keys !== undefined && expected.case === "exists") {
    return (inSpan.length > 0 === expected.value) !== (operator === ComparisonOperator.NOT_EQUAL);
  }
  const judged = keys === undefined ? [rows.get(text(key)!)] : inSpan.map((name) => rows.get(name));
  return judged.every((row) => {
    const order = orderOf(row, expected);
    if (operator === ComparisonOperator.LESS) return order < 0;
    if (operator === ComparisonOperator.GREATER) return order > 0;
    return operator === ComparisonOperator.NOT_EQUAL ? order !== 0 : order === 0;
  });
}

function orderOf(row: Row | undefined, expected: TxnComparison["expected"]): number {
  if (expected.case === "version") return (row?.version ?? 0) - Number(expected.value);
  if (expected.case === "createVersion") return (row?.created ?? 0) - Number(expected.value);
  if (expected.case === "exists") return (row !== undefined) === expected.value ? 0 : 1;
  return row !== undefined && row.value === text(expected.value as Uint8Array) ? 0 : 1;
}

function keysOf(rows: Map<string, Row>, { prefix, start, end }: KeySpan): string[] {
  const [first, last] = [text(start)!, text(end)!];
  return [...rows.keys()]
    .filter((key) => key.startsWith(text(prefix)!) && key >= first && (last === "" || key < last))
    .sort();
}

function carryOut(rows: Map<string, Row>, { operation }: TxnStep, index: number): StepOutcome {
  if (operation.case === "put") {
    const key = text(operation.value.key)!;
    rows.set(key, { value: text(operation.value.value)!, version: index, created: rows.get(key)?.created ?? index });
    return { put: true };
  }
  if (operation.case === "delete") return { deleted: rows.delete(text(operation.value.key)!) ? 1 : 0 };
  if (operation.case === "deleteRange") {
    return { deleted: keysOf(rows, operation.value.keys!).filter((key) => rows.delete(key)).length };
  }
  const read = (key: string, keysOnly: boolean) => {
    const { value, version, created } = rows.get(key)!;
    return [key, keysOnly ? "" : value, version, created] as const;
  };
  if (operation.case === "get") {
    const key = text(operation.value.key)!;
    return { read: rows.has(key) ? [read(key, false)] : [], more: false };
  }
  const { keys, limit, keysOnly } = operation.value as Extract<TxnStep["operation"], { case: "range" }>["value"];
  const all = keysOf(rows, keys!);
  const most = limit === 0n ? all.length : Number(limit);
  return { read: all.slice(0, most).map((key) => read(key, keysOnly)), more: all.length > most };
}
