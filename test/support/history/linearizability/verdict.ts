import type { Operation } from "../history.js";
import type { Explanation } from "./explanation.js";

export type Verdict =
  | { readonly outcome: "ok"; readonly steps: number }
  /** The step limit was reached at `keys`; no other key is at fault. */
  | { readonly outcome: "unknown"; readonly keys: readonly string[]; readonly steps: number }
  | Violation;

/** Why there is no linear order of the operations on `key`. */
export interface Violation extends Explanation {
  readonly outcome: "violation";
  readonly key: string;
  readonly steps: number;
}

/** How many operations of the prefix are shown: what went before them seldom helps. */
const SHOWN_OF_PREFIX = 12;

/** A verdict for people to read, of several lines. */
export function describe(verdict: Verdict): string {
  switch (verdict.outcome) {
    case "ok":
      return `linearizable (${verdict.steps} steps)`;
    case "unknown":
      return `not decided in ${verdict.steps} steps: ${verdict.keys.map(quoted).join(", ")}`;
    case "violation":
      return describeViolation(verdict).join("\n");
  }
}

function describeViolation({ key, prefix, states, culprit, inFlight, steps }: Violation): string[] {
  const left = Math.max(0, prefix.length - SHOWN_OF_PREFIX);
  return [
    `not linearizable: key ${quoted(key)} (${steps} steps)`,
    ...(prefix.length === 0 ? [] : ["what returned before has a linear order:"]),
    ...(left > 0 ? [`  ... ${left} more`] : []),
    ...prefix.slice(left).map(line),
    ...(states.length === 0 ? [] : [`then the key held ${states.map(shownValue).join(" or ")}`]),
    "no place is left for:",
    line(culprit),
    ...(inFlight.length === 0 ? [] : ["in flight when that returned:", ...inFlight.map(line)]),
  ];
}

function line(operation: Operation): string {
  const { client, call, ret, status } = operation;
  const end = status === "info" ? "unknown" : ret;
  return `  ${`${call}..${end}`.padEnd(24)} ${client.padEnd(8)} ${action(operation)}`;
}

function action(operation: Operation): string {
  const { op, value, from, out, found, status } = operation;
  const known = status === "ok";
  switch (op) {
    case "put":
      return `put ${shownValue(value)}`;
    case "get":
      return `get: ${found ? shownValue(out) : "nothing"}`;
    case "delete":
      return `delete${known ? `: ${found ? "was there" : "was not there"}` : ""}`;
    case "cas": {
      const asked = `cas ${shownValue(from)} -> ${shownValue(value)}`;
      if (!known) return asked;
      if (found) return `${asked}: swapped`;
      return `${asked}: not swapped${out === undefined ? "" : `, met ${shownValue(out)}`}`;
    }
  }
}

function shownValue(value: string | null | undefined): string {
  return value === null || value === undefined ? "nothing" : quoted(value);
}

function quoted(text: string): string {
  return JSON.stringify(text);
}
