import type { Operation } from "../history.js";

/** What a client is going to do, when, and how it will end. Times are microseconds. */
export interface Plan {
  readonly client: number;
  readonly op: Operation["op"];
  /** What put and cas write. */
  readonly value: string;
  /** What cas expects, unless `lucky`: then it happens to expect what is there. */
  readonly from: string;
  readonly lucky: boolean;
  /** Whether the answer of a cas that does not swap says what is there. */
  readonly tells: boolean;
  /** From the end of the client's operation before, or the start, to the call. */
  readonly pause: number;
  /** From the call to when the operation takes effect. */
  readonly outward: number;
  /** From there to the return, or to when the client gives up. */
  readonly back: number;
  /** "late": takes effect so long after the client has given up. */
  readonly end: "ok" | "fail" | "lost" | { readonly late: number };
}

interface Flight {
  readonly plan: Plan;
  readonly call: number;
  /** When it takes effect; undefined: never. */
  readonly effect: number | undefined;
  /** When its client is told or gives up. */
  readonly ret: number;
}

/** What clients see of a register that takes each operation at one moment: a linearizable history of one key. */
export function runPlans(plans: readonly Plan[], key = "k"): Operation[] {
  const flights = takeOff(plans);
  const byEffect = flights
    .filter(({ effect }) => effect !== undefined)
    .sort((one, other) => one.effect! - other.effect!);
  const answers = new Map<Flight, Partial<Operation>>();
  let state: string | null = null;
  for (const flight of byEffect) {
    const { answer, after } = carryOut(flight.plan, state);
    answers.set(flight, answer);
    state = after;
  }
  return flights.map((flight) => record(flight, key, answers.get(flight)));
}

function takeOff(plans: readonly Plan[]): Flight[] {
  const freeAt = new Map<number, number>();
  return plans.map((plan) => {
    const call = (freeAt.get(plan.client) ?? 0) + plan.pause;
    const arrival = call + plan.outward;
    const ret = arrival + plan.back;
    freeAt.set(plan.client, ret + 1);
    if (typeof plan.end === "object") return { plan, call, ret, effect: ret + plan.end.late };
    return { plan, call, ret, effect: plan.end === "ok" ? arrival : undefined };
  });
}

function carryOut(
  { op, value, from, lucky, tells }: Plan,
  state: string | null,
): { answer: Partial<Operation>; after: string | null } {
  const found = state !== null;
  switch (op) {
    case "get":
      return { answer: found ? { found, out: state } : { found }, after: state };
    case "put":
      return { answer: {}, after: value };
    case "delete":
      return { answer: { found }, after: null };
    case "cas": {
      const expected = lucky ? state : from;
      const swapped = expected === state;
      const met = swapped || !tells ? {} : { out: state };
      return { answer: { from: expected, found: swapped, ...met }, after: swapped ? value : state };
    }
  }
}

function record({ plan, call, ret }: Flight, key: string, answer: Partial<Operation> | undefined): Operation {
  const { client, op, value, from, end } = plan;
  const asked = {
    client: `c${client}`,
    op,
    key,
    ...(op === "put" || op === "cas" ? { value } : {}),
    ...(op === "cas" ? { from: answer?.from === undefined ? from : answer.from } : {}),
  };
  if (end === "ok") return { ...asked, ...answer, status: "ok", call, ret };
  if (end === "fail") return { ...asked, status: "fail", call, ret };
  return { ...asked, status: "info", call, ret: null };
}
