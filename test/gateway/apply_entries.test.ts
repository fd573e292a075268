import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { type Conversation, del, get, oks, put, puts, startNodes } from "./support.js";

const apply = (entries: readonly object[]) => ({ type: "apply_entries", entries });
const applied = (results: readonly object[], last: number) => ({ results, last_applied: last });

async function stateOf(gateway: Conversation, dest = "n1") {
  const { state, last_applied } = await gateway.ask({ type: "get_state" }, dest);
  return { state, last_applied };
}

async function logOf(gateway: Conversation) {
  const { first_index, last_index, snapshot_index, total_entries } = await gateway.ask({ type: "get_log_info" });
  return [first_index, last_index, snapshot_index, total_entries];
}

/** Nothing of the request may be there: neither in the state nor in the log. */
async function changesNothing(gateway: Conversation, request: object[], code: number, text: RegExp) {
  const before = [await stateOf(gateway), await logOf(gateway)];
  await gateway.fails(apply(request), code, text);
  expect([await stateOf(gateway), await logOf(gateway)]).toEqual(before);
}

describe("apply_entries", () => {
  test("applies puts, gets and deletes at once, each at its index of the log", async () => {
    const gateway = await startNodes();
    const entries = [
      put(1, "x", "1"),
      get(2, "x"),
      put(3, "x", 2),
      get(4, "x"),
      get(5, "y"),
      del(6, "x"),
      get(7, "x"),
      put(8, "y", null),
      get(9, "y"),
    ];
    const results = ["ok", "1", "ok", 2, null, "ok", null, "ok", null].map((result, at) => ({ index: at + 1, result }));
    await gateway.replies(apply(entries), "apply_entries_ok", applied(results, 9));
    await gateway.replies({ type: "get_state" }, "get_state_ok", { state: { y: null }, last_applied: 9 });
    await gateway.replies({ type: "get_log_info" }, "get_log_info_ok", {
      first_index: 1,
      last_index: 9,
      snapshot_index: 0,
      total_entries: 9,
    });
  });

  test("answers ok for deleting a missing key", async () => {
    const gateway = await startNodes();
    await gateway.replies(apply([del(1, "x")]), "apply_entries_ok", applied(oks(1, 1), 1));
  });

  test("changes nothing for an empty list, and says what is applied", async () => {
    const gateway = await startNodes();
    await gateway.replies(apply([]), "apply_entries_ok", applied([], 0));
    await gateway.ask(apply(puts(1, 2)));
    await gateway.replies(apply([]), "apply_entries_ok", applied([], 2));
  });

  test("takes entries of several terms in a batch", async () => {
    const gateway = await startNodes();
    await gateway.replies(
      apply([put(1, "a", 1, 1), put(2, "b", 2, 3), put(3, "c", 3, 3)]),
      "apply_entries_ok",
      applied(oks(1, 3), 3),
    );
    await gateway.ask({ type: "take_snapshot", up_to_index: 1 });
    expect(await gateway.ask({ type: "get_snapshot" })).toMatchObject({ snapshot_index: 1, snapshot_term: 1 });
    expect(await gateway.ask({ type: "take_snapshot" })).toMatchObject({ snapshot_index: 3, snapshot_term: 3 });
  });

  test("takes any term as the first one", async () => {
    const gateway = await startNodes();
    await gateway.replies(apply(puts(1, 2, 7)), "apply_entries_ok", applied(oks(1, 2), 2));
  });

  describe("given entries that are in the log already", () => {
    test("does not apply them twice, and returns their first results", async () => {
      const gateway = await startNodes();
      const batch = [put(1, "x", 1), get(2, "x"), put(3, "x", 2), get(4, "x"), get(5, "none")];
      const results = ["ok", 1, "ok", 2, null].map((result, at) => ({ index: at + 1, result }));
      await gateway.replies(apply(batch), "apply_entries_ok", applied(results, 5));
      await gateway.replies(apply([put(6, "x", 3)]), "apply_entries_ok", applied(oks(6, 1), 6));
      await gateway.replies(apply(batch), "apply_entries_ok", applied(results, 6));
      await gateway.replies(apply(batch.slice(1, 3)), "apply_entries_ok", applied(results.slice(1, 3), 6));
      expect(await stateOf(gateway)).toEqual({ state: { x: 3 }, last_applied: 6 });
    });

    test("takes new entries with them", async () => {
      const gateway = await startNodes();
      await gateway.ask(apply([put(1, "x", 1), get(2, "x")]));
      const results = [
        { index: 1, result: "ok" },
        { index: 2, result: 1 },
        { index: 3, result: "ok" },
        { index: 4, result: 5 },
      ];
      const batch = [put(1, "x", 1), get(2, "x"), put(3, "x", 5), get(4, "x")];
      await gateway.replies(apply(batch), "apply_entries_ok", applied(results, 4));
    });

    test("takes them in a term that is over", async () => {
      const gateway = await startNodes();
      await gateway.ask(apply(puts(1, 3, 1)));
      await gateway.ask(apply(puts(4, 2, 5)));
      await gateway.replies(apply(puts(1, 3, 1)), "apply_entries_ok", applied(oks(1, 3), 5));
      const batch = [...puts(3, 1, 1), ...puts(4, 2, 5), ...puts(6, 1, 5)];
      await gateway.replies(apply(batch), "apply_entries_ok", applied(oks(3, 4), 6));
    });

    test("takes them when a snapshot covers them", async () => {
      const gateway = await startNodes();
      await gateway.ask(apply([...puts(1, 4), get(5, "k1")]));
      await gateway.ask({ type: "take_snapshot" });
      const results = [...oks(1, 4), { index: 5, result: 1 }];
      await gateway.replies(apply([...puts(1, 4), get(5, "k1")]), "apply_entries_ok", applied(results, 5));
      await gateway.replies(
        apply([get(5, "k1"), ...puts(6, 1)]),
        "apply_entries_ok",
        applied([...results.slice(4), ...oks(6, 1)], 6),
      );
      expect(await logOf(gateway)).toEqual([6, 6, 5, 1]);
    });

    test('says "ok" for a get whose result is forgotten', async () => {
      const gateway = await startNodes();
      await gateway.ask(apply([put(1, "x", 1), get(2, "x")]));
      await gateway.ask({ type: "restart" });
      await gateway.replies(apply([get(2, "x")]), "apply_entries_ok", applied(oks(2, 1), 2));
    });
  });

  describe("answers error 22 with the expected index, and changes nothing", () => {
    test("for a gap before the batch", async () => {
      const gateway = await startNodes();
      await changesNothing(gateway, puts(2, 2), 22, /index 2: expected index 1/);
      await gateway.ask(apply(puts(1, 3)));
      await changesNothing(gateway, puts(5, 1), 22, /index 5: expected index 4/);
      await gateway.ask({ type: "take_snapshot" });
      await changesNothing(gateway, puts(5, 1), 22, /index 5: expected index 4/);
    });

    test("for a gap, or a step back, within the batch", async () => {
      const gateway = await startNodes();
      await changesNothing(gateway, [...puts(1, 2), ...puts(4, 1)], 22, /index 4: expected index 3/);
      await changesNothing(gateway, [...puts(1, 2), ...puts(2, 1)], 22, /index 2: expected index 3/);
      await changesNothing(gateway, [...puts(1, 1), ...puts(0, 1)], 22, /index 0: expected index 2/);
    });

    test("for an index that is not above 0", async () => {
      const gateway = await startNodes();
      await changesNothing(gateway, puts(0, 1), 22, /index 0: expected index 1/);
      await changesNothing(gateway, puts(-1, 3), 22, /index -1: expected index 1/);
      await gateway.ask(apply(puts(1, 3)));
      await changesNothing(gateway, puts(0, 1), 22, /index 0: expected index 4/);
    });

    test("for a conflict with a committed entry", async () => {
      const gateway = await startNodes();
      await gateway.ask(apply(puts(1, 3)));
      await changesNothing(gateway, puts(2, 1, 2), 22, /index 2 is committed with term 1, not 2: expected index 4/);
      await changesNothing(gateway, [...puts(3, 1, 2), ...puts(4, 1, 2)], 22, /index 3 is committed/);
      await gateway.ask({ type: "take_snapshot", up_to_index: 3 });
      await changesNothing(gateway, puts(3, 1, 2), 22, /index 3 is committed with term 1/);
    });

    test("for an entry of an older term than the node's", async () => {
      const gateway = await startNodes();
      await gateway.ask(apply(puts(1, 1, 4)));
      await changesNothing(gateway, puts(2, 1, 3), 22, /term 3, below the term 4/);
      await gateway.ask({ type: "write", key: "x", value: 1 });
      const { last_index } = await gateway.ask({ type: "get_log_info" });
      await changesNothing(gateway, puts(Number(last_index) + 1, 1, 4), 22, /term 4/);
    });

    test("and leaves the node in its term, whatever term the refused batch has", async () => {
      const gateway = await startNodes();
      await gateway.ask(apply(puts(1, 3)));
      await changesNothing(gateway, puts(5, 1, 9), 22, /index 5: expected index 4/);
      await changesNothing(gateway, puts(2, 3, 9), 22, /index 2 is committed with term 1, not 9: expected index 4/);
      await gateway.replies(apply(puts(4, 1)), "apply_entries_ok", applied(oks(4, 1), 4));
    });

    test("for entries that do not fit what others have written to the node's log meanwhile", async () => {
      const gateway = await startNodes();
      await gateway.ask(apply(puts(1, 1)));
      await gateway.ask({ type: "write", key: "x", value: 1 });
      await changesNothing(gateway, puts(2, 1, 5), 22, /index 2 is committed with term 2, not 5: expected index 4/);
      await gateway.replies(apply(puts(4, 1, 5)), "apply_entries_ok", applied(oks(4, 1), 4));
    });

    test("for a term that falls within the batch", async () => {
      const gateway = await startNodes();
      await changesNothing(gateway, [put(1, "a", 1, 2), put(2, "b", 1, 1)], 22, /index 2 has term 1, below the term 2/);
    });

    test("for the term in which the node itself leads", async () => {
      const gateway = await startNodes();
      await gateway.ask({ type: "write", key: "x", value: 1 });
      await changesNothing(gateway, puts(3, 1, 1), 22, /leads in term 1/);
      await gateway.replies(apply(puts(3, 1, 2)), "apply_entries_ok", applied(oks(3, 1), 3));
    });
  });

  test("answers error 12 and applies nothing when one entry is malformed", async () => {
    const gateway = await startNodes();
    for (const [fields, text] of [
      [{}, /field entries is missing/],
      [{ entries: {} }, /field entries must be a list/],
      [{ entries: [1] }, /field entries\[0\] must be an object/],
      [{ entries: [put(1, "a", 1), { index: 2, term: 1 }] }, /field entries\[1\]\.command is missing/],
      [{ entries: [{ ...put(1, "a", 1), index: "1" }] }, /field entries\[0\]\.index must be a whole number/],
      [{ entries: [{ ...put(1, "a", 1), index: 1.5 }] }, /field entries\[0\]\.index must be a whole number/],
      [{ entries: [put(1, "a", 1, 0)] }, /field entries\[0\]\.term must be a whole number from 1/],
      [
        { entries: [{ index: 1, term: 1, command: { op: "incr", key: "a" } }] },
        /command\.op must be one of put, get, delete/,
      ],
      [
        { entries: [{ index: 1, term: 1, command: { op: "put", key: "a" } }] },
        /entries\[0\]\.command\.value is missing/,
      ],
      [{ entries: [{ index: 1, term: 1, command: { op: "get" } }] }, /entries\[0\]\.command\.key is missing/],
      [{ entries: [put(1, "", 1)] }, /entries\[0\]\.command\.key must not be empty/],
      [{ entries: [put(1, null, 1)] }, /entries\[0\]\.command\.key must be a string/],
      [{ entries: [put(1, "k".repeat(limits.keyBytes + 1), 1)] }, /keyBytes is 1024/],
      [{ entries: [put(1, "k", "v".repeat(limits.valueBytes - 1))] }, /valueBytes is/],
    ] as const) {
      await gateway.fails({ type: "apply_entries", ...fields }, 12, text);
      expect(await logOf(gateway)).toEqual([1, 0, 0, 0]);
    }
  });

  test("takes a number as the key of its digits", async () => {
    const gateway = await startNodes();
    const results = [
      { index: 1, result: "ok" },
      { index: 2, result: 5 },
    ];
    await gateway.replies(apply([put(1, 7, 5), get(2, "7")]), "apply_entries_ok", applied(results, 2));
    expect((await stateOf(gateway)).state).toEqual({ "7": 5 });
  });

  test("returns values of every JSON type as they were given", async () => {
    const gateway = await startNodes();
    const values = [
      "1",
      1,
      -0.5,
      1e300,
      true,
      false,
      null,
      "",
      "é€😀\u0000\n",
      [],
      {},
      [1, [2, { a: null }]],
      { "": 1, b: { c: [] } },
    ];
    const entries = values.flatMap((value, at) => [put(2 * at + 1, `k${at}`, value), get(2 * at + 2, `k${at}`)]);
    const results = values.flatMap((value, at) => [
      { index: 2 * at + 1, result: "ok" },
      { index: 2 * at + 2, result: value },
    ]);
    await gateway.replies(apply(entries), "apply_entries_ok", applied(results, 2 * values.length));
  });

  test("returns big numbers, deep nesting and the largest value as they were given", async () => {
    const gateway = await startNodes();
    const values = [
      "123456789012345678901234567890",
      "-1e-400",
      "0.30000000000000004441",
      `${"[".repeat(limits.gatewayJsonDepth)}${"]".repeat(limits.gatewayJsonDepth)}`,
      `"${"v".repeat(limits.valueBytes - 2)}"`,
    ];
    for (const [at, value] of values.entries()) {
      const command = `{"op":"put","key":"k","value":${value}}`;
      gateway.send(
        `{"src":"c","dest":"n1","body":{"type":"apply_entries","entries":[{"index":${at + 1},"term":1,"command":${command}}]}}\n`,
      );
      gateway.send('{"src":"c","dest":"n1","body":{"type":"get_state","msg_id":1}}\n');
      expect(await gateway.nextLine()).toContain(`"state":{"k":${value}},`);
    }
    expect(gateway.complaints).toEqual([]);
  });

  test("answers error 12 for a value that is nested too deeply", async () => {
    const gateway = await startNodes();
    const value = `${"[".repeat(5000)}${"]".repeat(5000)}`;
    const entry = `{"index":1,"term":1,"command":{"op":"put","key":"k","value":${value}}}`;
    gateway.send(`{"src":"c","dest":"n1","body":{"type":"apply_entries","msg_id":1,"entries":[${entry}]}}\n`);
    expect(JSON.parse(await gateway.nextLine())).toMatchObject({
      body: { code: 12, text: expect.stringContaining("gatewayJsonDepth") },
    });
  });

  test("leaves a state that lists its keys in byte order, whatever they look like", async () => {
    const gateway = await startNodes();
    const keys = ["b", "10", "9", "a", "é", "__proto__", "Z", "😀", "\uffff"];
    gateway.send(
      `${JSON.stringify({ src: "c", dest: "n1", body: { type: "apply_entries", entries: keys.map((key, at) => put(at + 1, key, at)) } })}\n`,
    );
    gateway.send('{"src":"c","dest":"n1","body":{"type":"get_state","msg_id":1}}\n');
    const sorted = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const members = sorted.map((key) => `${JSON.stringify(key)}:${keys.indexOf(key)}`).join(",");
    expect(await gateway.nextLine()).toContain(`"state":{${members}},"last_applied":9`);
  });

  test("answers in full for a batch that exceeds a message, and for more gets than are remembered", async () => {
    const gateway = await startNodes();
    const large = Array.from({ length: 6 }, (_, at) => put(at + 1, `k${at + 1}`, "v".repeat(1_000_000)));
    await gateway.replies(apply(large), "apply_entries_ok", applied(oks(1, 6), 6));
    const gets = Array.from({ length: 12_000 }, (_, at) => get(7 + at, "none"));
    const reply = await gateway.ask(apply(gets));
    expect(reply.last_applied).toBe(12_006);
    expect((reply.results as { result: unknown }[]).filter(({ result }) => result !== null)).toEqual([]);
  });
});
