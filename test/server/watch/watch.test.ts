import { describe, expect, test } from "vitest";
import { bytes } from "../../support/nodes/acting_leader.js";
import { CLUSTER } from "../../support/nodes/nodes.js";
import { serve } from "../../support/nodes/served_node.js";
import { RawWatch } from "./watch_support.js";

type Served = Awaited<ReturnType<typeof serve>>;

const put = async ({ kv }: Served, key: string, value: string) =>
  Number((await kv.put({ key: bytes(key), value: bytes(value) })).version);
const remove = ({ kv }: Served, key: string) => kv.delete({ key: bytes(key) });

describe("a watch", () => {
  test("answers at once with the index after which it begins, then tells of changes in order", async () => {
    const served = await serve({ lead: true });
    await put(served, "a", "before");
    const watch = await new RawWatch(served.kv).reached(2);
    expect(watch.answers).toMatchObject([{ through: 2n, events: [], header: { clusterId: CLUSTER, nodeId: "n1" } }]);
    await put(served, "a", "1");
    await put(served, "b", "2");
    await remove(served, "a");
    await remove(served, "a");
    await put(served, "a", "3");
    await watch.reached(7);
    expect(watch.changes).toEqual(["3 a=1", "4 +b=2", "5 -a", "7 +a=3"]);
  });

  test("from an earlier index tells of the same changes as one that was there", async () => {
    const served = await serve({ lead: true });
    const live = await new RawWatch(served.kv).reached(1);
    for (let at = 0; at < 20; at++) await put(served, `k${at % 5}`, `${at}`);
    await remove(served, "k1");
    const { kv } = served;
    const steps = [
      { operation: { case: "deleteRange", value: { keys: { prefix: bytes("k") } } } },
      { operation: { case: "put", value: { key: bytes("new"), value: bytes("v") } } },
    ] as const;
    await kv.txn({ then: [...steps] });
    await kv.compareAndSet({ key: bytes("new"), expected: { case: "value", value: bytes("other") } });
    const last = await put(served, "end", "1");
    const resumed = await new RawWatch(kv, { startIndex: 2n, clusterId: CLUSTER }).reached(last);
    await live.reached(last);
    expect(resumed.changes).toEqual(live.changes);
    expect(live.changes.slice(-6)).toEqual([
      `${last - 2} -k0`,
      `${last - 2} -k2`,
      `${last - 2} -k3`,
      `${last - 2} -k4`,
      `${last - 2} +new=v`,
      `${last} +end=1`,
    ]);
  });

  test.each([
    ["a key", { key: bytes("ab") }, ["ab"]],
    ["a prefix", { prefix: bytes("a") }, ["a", "ab", "abc"]],
    ["a span", { keys: { start: bytes("ab"), end: bytes("b") } }, ["ab", "abc"]],
    ["a span without an end", { keys: { start: bytes("abc") } }, ["abc", "b", "ü"]],
    ["a span that is a prefix", { keys: { prefix: bytes("ab") } }, ["ab", "abc"]],
    ["nothing", {}, ["a", "ab", "abc", "b", "ü"]],
  ])("of %s tells of those keys alone, live and from the past", async (_, target, expected) => {
    const served = await serve({ lead: true });
    const live = await new RawWatch(served.kv, target).reached(1);
    for (const key of ["a", "ab", "abc", "b", "ü"]) await put(served, key, "v");
    const resumed = await new RawWatch(served.kv, { ...target, startIndex: 2n }).reached(6);
    // The progress of a live watch without changes waits for its mark, so it is told of one more.
    const last = await put(served, expected[0]!, "last");
    for (const watch of [live, resumed]) {
      await watch.reached(last);
      expect(watch.changes.map((change) => change.replace(/^\d+ \+?|=v$/g, ""))).toEqual([
        ...expected,
        `${expected[0]}=last`,
      ]);
    }
  });

  test("with filters leaves out puts or deletes", async () => {
    const served = await serve({ lead: true });
    const puts = await new RawWatch(served.kv, { noDeletes: true }).reached(1);
    const deletes = await new RawWatch(served.kv, { noPuts: true }).reached(1);
    await put(served, "a", "1");
    await remove(served, "a");
    await put(served, "a", "2");
    await remove(served, "a");
    await Promise.all([puts.reached(4), deletes.reached(5)]);
    expect(puts.changes).toEqual(["2 +a=1", "4 +a=2"]);
    expect(deletes.changes).toEqual(["3 -a", "5 -a"]);
  });

  test("with previous values tells what each key was, as far as it is known", async () => {
    const served = await serve({ lead: true });
    await put(served, "a", "0");
    const watch = await new RawWatch(served.kv, { previous: true }).reached(2);
    await put(served, "a", "1");
    await remove(served, "a");
    await put(served, "a", "2");
    await served.kv.compareAndSet({
      key: bytes("a"),
      expected: { case: "value", value: bytes("2") },
      newValue: bytes("3"),
    });
    await served.kv.txn({ then: [{ operation: { case: "delete", value: { key: bytes("a") } } }] });
    await watch.reached(7);
    const shown = watch.answers
      .flatMap(({ events }) => events)
      .map(({ previous, previousKnown }) => [previousKnown, previous && Buffer.from(previous.value).toString()]);
    expect(shown).toEqual([
      [true, "0"],
      [true, "1"],
      [true, undefined],
      [true, "2"],
      [true, "3"],
    ]);
    const older = await new RawWatch(served.kv, { previous: true, startIndex: 2n }).reached(7);
    expect(older.answers.flatMap(({ events }) => events)[0]).toMatchObject({ index: 2n, previousKnown: false });
  });

  test("from the future waits, and is told of nothing before its start", async () => {
    const served = await serve({ lead: true });
    const watch = await new RawWatch(served.kv, { startIndex: 4n }).reached(3);
    for (const key of ["a", "b", "c", "d"]) await put(served, key, "v");
    await watch.reached(5);
    expect(watch.changes).toEqual(["4 +c=v", "5 +d=v"]);
  });

  test("sends progress marks when no key changes", async () => {
    const served = await serve({ lead: true });
    const watch = await new RawWatch(served.kv, { key: bytes("mine"), progressMs: 100 }).reached(1);
    const last = await put(served, "other", "v");
    await watch.reached(last);
    expect(watch.changes).toEqual([]);
    expect(watch.answers.length).toBeGreaterThan(1);
  });

  test.each([
    ["two targets", { key: bytes("a"), prefix: bytes("a") }, "INVALID_ARGUMENT"],
    ["a span without keys", { keys: { start: bytes("b"), end: bytes("a") } }, "INVALID_ARGUMENT"],
    ["a key that is too long", { key: new Uint8Array(1025) }, "LIMIT_EXCEEDED"],
    ["another cluster", { clusterId: "other" }, "WRONG_CLUSTER"],
    ["marks that are too close", { progressMs: 99 }, "INVALID_ARGUMENT"],
  ])("of %s is refused", async (_, request, code) => {
    const served = await serve({ lead: true });
    expect((await new RawWatch(served.kv, request).ended()).code).toBe(code);
  });

  test("ends with STOPPED when its node stops", async () => {
    const served = await serve({ lead: true });
    const watch = await new RawWatch(served.kv).reached(1);
    await served.server.stop();
    expect((await watch.ended()).code).toBe("STOPPED");
  });
});
