import { expect, describe as suite, test } from "vitest";
import type { Operation } from "./history.js";
import { isLinearizable } from "./linearizability/brute_force.js";
import { checkLinearizable, describe } from "./linearizability.js";

type Span = readonly [call: number, ret: number];

const on = ([call, ret]: Span) => ({ client: "c1", key: "k", status: "ok", call, ret }) as const;

const put = (value: string, span: Span): Operation => ({ ...on(span), op: "put", value });
const get = (out: string | null, span: Span): Operation =>
  out === null ? { ...on(span), op: "get", found: false } : { ...on(span), op: "get", found: true, out };
const remove = (found: boolean, span: Span): Operation => ({ ...on(span), op: "delete", found });
const swapped = (from: string | null, value: string, span: Span): Operation => ({
  ...on(span),
  op: "cas",
  from,
  value,
  found: true,
});
/** A cas that has met another value; `out` left out: it does not say which. */
const refused = (from: string | null, value: string, span: Span, out?: string | null): Operation => ({
  ...on(span),
  op: "cas",
  from,
  value,
  found: false,
  ...(out === undefined ? {} : { out }),
});

/** The same operation with an unknown outcome. */
function lost({ client, op, key, value, from, call }: Operation): Operation {
  const asked = { client, op, key, call, ret: null, status: "info" } as const;
  return { ...asked, ...(value === undefined ? {} : { value }), ...(from === undefined ? {} : { from }) };
}
const failed = (operation: Operation): Operation => ({ ...operation, status: "fail" });

const good: Readonly<Record<string, readonly Operation[]>> = {
  "nothing at all": [],
  "one after the other": [
    get(null, [0, 1]),
    remove(false, [2, 3]),
    put("a", [4, 5]),
    get("a", [6, 7]),
    put("b", [8, 9]),
    get("b", [10, 11]),
    remove(true, [12, 13]),
    get(null, [14, 15]),
  ],
  "a read beside a write sees it or not": [
    put("a", [0, 1]),
    put("b", [10, 20]),
    get("a", [11, 12]),
    get("b", [13, 14]),
    get("b", [15, 16]),
  ],
  "two writes at once, read in the order of their effects, not of their calls or returns": [
    put("a", [0, 10]),
    put("b", [1, 9]),
    get("b", [2, 5]),
    get("a", [6, 12]),
    get("a", [13, 14]),
  ],
  "what meets at a time is concurrent": [put("a", [0, 5]), put("b", [5, 8]), get("a", [8, 9])],
  "a chain of cas, overlapping": [
    swapped(null, "a", [0, 3]),
    swapped("c", "d", [1, 6]),
    swapped("b", "c", [1, 6]),
    swapped("a", "b", [1, 6]),
    get("d", [7, 8]),
  ],
  "a cas that fits nothing changes nothing": [
    refused("a", "b", [0, 1], null),
    put("c", [2, 3]),
    refused("a", "b", [4, 5], "c"),
    refused("a", "b", [6, 7]),
    refused(null, "b", [8, 9], "c"),
    get("c", [10, 11]),
  ],
  "a value comes back because it is written again": [
    put("a", [0, 1]),
    put("b", [2, 3]),
    put("a", [4, 5]),
    get("a", [6, 7]),
  ],
  "a cas that writes what is there": [put("a", [0, 1]), swapped("a", "a", [2, 3]), get("a", [4, 5])],
  "an unknown write takes effect late": [
    put("a", [0, 1]),
    lost(put("b", [2, 3])),
    get("a", [4, 5]),
    put("c", [6, 7]),
    get("c", [8, 9]),
    get("b", [10, 11]),
    get("b", [12, 13]),
  ],
  "an unknown write never takes effect": [
    lost(put("a", [0, 1])),
    get(null, [2, 3]),
    put("b", [4, 5]),
    get("b", [6, 7]),
  ],
  "an unknown delete takes effect late": [
    put("a", [0, 1]),
    lost(remove(true, [2, 3])),
    get("a", [4, 5]),
    get(null, [6, 7]),
  ],
  "an unknown cas takes effect when its value is there": [
    lost(swapped("a", "b", [0, 1])),
    put("a", [2, 3]),
    get("a", [4, 5]),
    get("b", [6, 7]),
  ],
  "unknown writes that build on each other": [
    lost(swapped("b", "c", [0, 1])),
    lost(swapped("a", "b", [0, 1])),
    lost(put("a", [0, 1])),
    get(null, [2, 3]),
    get("c", [4, 5]),
  ],
  "two unknown writes of one value, both needed": [
    lost(put("a", [0, 1])),
    lost(put("a", [2, 3])),
    get("a", [4, 5]),
    put("b", [6, 7]),
    get("b", [8, 9]),
    get("a", [10, 11]),
  ],
  "an unknown write that nobody has read explains what a delete has found": [
    lost(put("a", [0, 1])),
    get(null, [2, 3]),
    remove(true, [4, 5]),
    get(null, [6, 7]),
  ],
  "an unknown write that nobody has read explains why a cas was refused": [
    put("a", [0, 1]),
    lost(put("b", [0, 1])),
    get("a", [2, 3]),
    refused("a", "c", [4, 5]),
  ],
  "of two unknown writes that nobody has read, not any one explains it": [
    lost(put("b", [0, 1])),
    lost(put("a", [1, 2])),
    get(null, [3, 4]),
    remove(true, [5, 6]), // It was "a", since only "b" explains the last line.
    get(null, [7, 8]),
    put("a", [9, 10]),
    refused("a", "c", [11, 12]),
  ],
  "an unknown read tells nothing": [put("a", [0, 1]), lost(get("b", [2, 3])), get("a", [4, 5])],
  "a failed write has no effect": [put("a", [0, 1]), failed(put("b", [2, 3])), get("a", [4, 5])],
  "a failed read tells nothing": [put("a", [0, 1]), failed(get("b", [2, 3])), get("a", [4, 5])],
};

/** What is wrong, and the operation (by its number) whose return gives it away. */
const bad: Readonly<Record<string, readonly [culprit: number, history: readonly Operation[]]>> = {
  "a stale read": [2, [put("a", [0, 1]), put("b", [2, 3]), get("a", [4, 5]), get("b", [6, 7])]],
  "a stale read of a missing key": [1, [put("a", [0, 1]), get(null, [2, 3])]],
  "a lost update": [
    3,
    [put("a", [0, 1]), get("a", [2, 3]), put("b", [4, 5]), swapped("a", "c", [6, 7]), get("c", [8, 9])],
  ],
  "two cas that have both swapped the same value": [
    2,
    [put("a", [0, 1]), swapped("a", "b", [2, 9]), swapped("a", "c", [3, 10])],
  ],
  "a read from the future": [1, [put("a", [0, 1]), get("b", [2, 3]), put("b", [4, 5])]],
  "reads that go back": [
    3,
    [put("a", [0, 1]), put("b", [2, 20]), get("b", [3, 4]), get("a", [5, 6]), get("b", [21, 22])],
  ],
  "two readers that see two writes in opposite orders": [
    5,
    [put("a", [0, 30]), put("b", [0, 30]), get("a", [1, 2]), get("b", [3, 10]), get("b", [11, 12]), get("a", [13, 14])],
  ],
  "an unknown write that was seen, and then not": [
    3,
    [put("a", [0, 1]), lost(put("b", [2, 3])), get("b", [4, 5]), get("a", [6, 7])],
  ],
  "an unknown write that has taken effect twice": [
    4,
    [lost(put("a", [0, 1])), get("a", [2, 3]), put("b", [4, 5]), get("b", [6, 7]), get("a", [8, 9])],
  ],
  "an unknown write seen before its call": [0, [get("a", [0, 1]), lost(put("a", [2, 3]))]],
  "a write that has taken effect twice": [3, [put("a", [0, 1]), put("b", [2, 3]), get("b", [4, 5]), get("a", [6, 7])]],
  "a cas that has taken effect twice": [
    3,
    [put("a", [0, 1]), swapped("a", "b", [2, 3]), put("a", [4, 5]), get("b", [6, 7])],
  ],
  "an unknown cas that has taken effect twice": [
    4,
    [put("a", [0, 1]), lost(swapped("a", "b", [2, 3])), get("b", [4, 5]), put("a", [6, 7]), get("b", [8, 9])],
  ],
  "a cas that has swapped what was not there": [1, [put("a", [0, 1]), swapped("b", "c", [2, 3])]],
  "a cas that was refused by what it expects": [1, [put("a", [0, 1]), refused("a", "b", [2, 3])]],
  "a cas that says so itself": [1, [put("a", [0, 1]), refused("a", "b", [2, 3], "a")]],
  "a cas that was refused and has written": [2, [put("a", [0, 1]), refused("b", "c", [2, 3], "a"), get("c", [4, 5])]],
  "a value that nobody has written": [1, [put("a", [0, 1]), get("b", [2, 3])]],
  "a failed write that was seen": [2, [put("a", [0, 1]), failed(put("b", [2, 3])), get("b", [4, 5])]],
  "a deleted value that has come back": [
    3,
    [put("a", [0, 1]), remove(true, [2, 3]), get(null, [4, 5]), get("a", [6, 7])],
  ],
  "a delete that has found nothing to delete": [1, [put("a", [0, 1]), remove(false, [2, 3])]],
  "a delete that has found what was not there": [1, [lost(remove(true, [0, 1])), remove(true, [2, 3])]],
  "two deletes that have both found the same value": [
    2,
    [put("a", [0, 1]), remove(true, [2, 9]), remove(true, [3, 10])],
  ],
};

suite("the checker accepts", () => {
  test.each(Object.entries(good))("%s", (_, history) => {
    expect(isLinearizable(history)).toBe(true);
    expect(checkLinearizable(history)).toEqual({ outcome: "ok", steps: expect.any(Number) });
    expect(checkLinearizable(history.toReversed()).outcome).toBe("ok");
  });
});

suite("the checker rejects", () => {
  test.each(Object.entries(bad))("%s", (_, [culprit, history]) => {
    expect(isLinearizable(history)).toBe(false);
    expect(checkLinearizable(history)).toMatchObject({ outcome: "violation", key: "k", culprit: history[culprit] });
    expect(checkLinearizable(history.toReversed())).toMatchObject({ outcome: "violation", culprit: history[culprit] });
  });
});

suite("the keys of a history", () => {
  const stale = [put("a", [0, 1]), put("b", [2, 3]), get("a", [4, 5])];
  const at = (key: string, history: readonly Operation[]) => history.map((operation) => ({ ...operation, key }));

  test("are independent of each other", () => {
    const history = [
      ...at("x", [put("a", [0, 1]), get("a", [4, 5])]),
      ...at("y", [put("b", [2, 3]), get("b", [6, 7])]),
    ];
    expect(checkLinearizable(history).outcome).toBe("ok");
    expect(checkLinearizable(history.map((operation) => ({ ...operation, key: "x" }))).outcome).toBe("violation");
  });

  test("are named when they are at fault", () => {
    const history = [...at("x", [put("a", [0, 1])]), ...at("__proto__", stale)];
    expect(checkLinearizable(history)).toMatchObject({ outcome: "violation", key: "__proto__" });
  });

  test("make a violation count for more than a key that was not decided", () => {
    const many = Array.from({ length: 20 }, (_, at) => put(`${at}`, [2 * at, 2 * at + 1]));
    const verdict = checkLinearizable([...at("x", many), ...at("y", stale)], { stepLimit: 10 });
    expect(verdict).toMatchObject({ outcome: "violation", key: "y" });
    expect(checkLinearizable([...at("x", many), ...at("y", stale.slice(0, 2))], { stepLimit: 10 })).toMatchObject({
      outcome: "unknown",
      keys: ["x"],
    });
  });
});

test("the checker says neither yes nor no at its step limit", () => {
  for (const [name, history] of [
    ...Object.entries(good),
    ...Object.entries(bad).map(([n, [, h]]) => [n, h] as const),
  ]) {
    const { outcome, steps } = checkLinearizable(history);
    for (let stepLimit = 0; stepLimit < steps; stepLimit++) {
      expect(checkLinearizable(history, { stepLimit }), name).toMatchObject({ outcome: "unknown", keys: ["k"] });
    }
    expect(checkLinearizable(history, { stepLimit: steps }), name).toMatchObject({ outcome, steps });
  }
});

test("a malformed history is refused, not judged", () => {
  expect(() => checkLinearizable([put("a", [0, 1]), { ...get("a", [2, 3]), ret: null }])).toThrow(
    "operation 1: ret is not a whole number",
  );
});

suite("the description of a verdict", () => {
  test("shows for a violation how far an order goes, and the operation that has no place in it", () => {
    const history: Operation[] = [
      put("a", [0, 10]),
      { ...put("b", [12, 20]), client: "c2" },
      lost({ ...swapped("b", "c", [15, 16]), client: "c3" }),
      { ...get("c", [22, 30]), client: "c2" },
      refused(null, "z", [31, 32], "c"),
      { ...get("b", [33, 40]), client: "writer-4" },
      { ...remove(true, [35, 50]), client: "c5" },
      get(null, [51, 60]),
    ];
    expect(
      describe(checkLinearizable(history))
        .replace(/\d+ steps/, "N steps")
        .split("\n"),
    ).toEqual([
      'not linearizable: key "k" (N steps)',
      "what returned before has a linear order:",
      '  0..10                    c1       put "a"',
      '  12..20                   c2       put "b"',
      '  15..unknown              c3       cas "b" -> "c"',
      '  22..30                   c2       get: "c"',
      '  31..32                   c1       cas nothing -> "z": not swapped, met "c"',
      'then the key held "c"',
      "no place is left for:",
      '  33..40                   writer-4 get: "b"',
      "in flight when that returned:",
      "  35..50                   c5       delete: was there",
    ]);
  });

  test("leaves out the distant past of a violation", () => {
    const puts = Array.from({ length: 30 }, (_, at) => put(`${at}`, [2 * at, 2 * at + 1]));
    const lines = describe(checkLinearizable([...puts, get("27", [98, 99])])).split("\n");
    expect(lines).toContain("  ... 18 more");
    expect(lines).toContain('then the key held "29"');
    expect(lines).toHaveLength(2 + 1 + 12 + 1 + 1 + 1);
  });

  test("names all values that the key can hold", () => {
    const verdict = checkLinearizable([
      put("a", [0, 10]),
      put("b", [0, 10]),
      remove(true, [0, 10]),
      swapped("d", "e", [11, 12]),
    ]);
    const [, held] = /^then the key held (.*)$/m.exec(describe(verdict))!;
    expect(held!.split(" or ").sort()).toEqual(['"a"', '"b"', "nothing"]);
  });

  test("has no order when the first operation is impossible", () => {
    expect(
      describe(checkLinearizable([get("a", [0, 1])]))
        .split("\n")
        .slice(1),
    ).toEqual(["then the key held nothing", "no place is left for:", '  0..1                     c1       get: "a"']);
  });

  test("is one line for every other verdict", () => {
    expect(describe({ outcome: "ok", steps: 7 })).toBe("linearizable (7 steps)");
    expect(describe({ outcome: "unknown", keys: ["x", "y"], steps: 7 })).toBe('not decided in 7 steps: "x", "y"');
  });
});
