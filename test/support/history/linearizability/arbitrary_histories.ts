import fc from "fast-check";
import type { Operation } from "../history.js";
import type { Plan } from "./simulated_register.js";

export interface Traffic {
  readonly clients: number;
  readonly values: fc.Arbitrary<string>;
  /** Longest pause and flight, in microseconds. */
  readonly longest: number;
  /** Of a thousand operations, how many end with an unknown outcome, and never or later take effect. */
  readonly unknownPerMille: number;
  /** How long an operation of unknown outcome may be under way, in microseconds. */
  readonly latest: number;
}

/** What a client may be about to do. */
export function plans({ clients, values, longest, unknownPerMille, latest }: Traffic): fc.Arbitrary<Plan> {
  const time = fc.nat(longest);
  return fc.record({
    client: fc.nat(clients - 1),
    op: fc.constantFrom("get", "get", "put", "put", "cas", "cas", "delete"),
    value: values,
    from: values,
    lucky: fc.boolean(),
    tells: fc.boolean(),
    pause: time,
    outward: time,
    back: time,
    end: fc.oneof(
      { weight: 970 - unknownPerMille, arbitrary: fc.constant("ok" as const) },
      { weight: 30, arbitrary: fc.constant("fail" as const) },
      { weight: unknownPerMille / 2, arbitrary: fc.constant("lost" as const) },
      { weight: unknownPerMille / 2, arbitrary: fc.record({ late: fc.nat(latest) }) },
    ),
  });
}

/** Operations on one key that may have had any answer: most histories of several are not linearizable. */
export function anyOperation(values: fc.Arbitrary<string>, latest: number): fc.Arbitrary<Operation> {
  return fc
    .record({
      op: fc.constantFrom("get", "put", "cas", "delete"),
      value: values,
      from: fc.option(values),
      out: fc.option(values),
      tells: fc.boolean(),
      found: fc.boolean(),
      status: fc.constantFrom("ok", "ok", "ok", "ok", "info", "info", "fail"),
      call: fc.nat(latest),
      takes: fc.nat(latest),
    })
    .map(({ op, value, from, out, tells, found, status, call, takes }) => ({
      client: "c",
      op,
      key: "k",
      status,
      call,
      ret: status === "info" ? null : call + takes,
      ...(op === "put" || op === "cas" ? { value } : {}),
      ...(op === "cas" ? { from } : {}),
      ...(status === "ok" ? answerOf({ op, out, tells, found }) : {}),
    }));
}

function answerOf({ op, out, tells, found }: { op: string; out: string | null; tells: boolean; found: boolean }) {
  if (op === "get") return out === null ? { found: false } : { found: true, out };
  if (op === "delete") return { found };
  if (op === "cas") return found || !tells ? { found } : { found, out };
  return {};
}
