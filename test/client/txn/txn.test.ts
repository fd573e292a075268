import { describe, expect, expectTypeOf, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { type Condition, compare } from "../../../src/client/txn/conditions.js";
import { type ForgottenStepResult, type GetStepResult, op, type PutStepResult } from "../../../src/client/txn/steps.js";
import { failure, until } from "../../support/conditions.js";
import { serve } from "../../support/nodes/served_node.js";
import { type AnswerInit, acknowledge, clientOf, FakeNode } from "../support.js";

/** A node that leads alone, and a client of it. */
async function start() {
  const { node, server } = await serve({ lead: true, segmentBytes: limits.segmentBytes });
  return { node, server, client: clientOf(server.address) };
}

describe("a transaction of the client", () => {
  test("carries out one list of steps, with results of their types", async () => {
    const { client } = await start();
    const version = await client.put("stock", "2");
    const order = () =>
      client
        .txn()
        .when(compare("stock").version("=", version), compare({ prefix: "order:" }).missing())
        .then(op.put("stock", "1"), op.put("order:1", { json: { pieces: 1 } }))
        .else(op.get("stock"), op.range({ prefix: "order:" }, { limit: 5 }))
        .commit();
    const done = await order();
    if (!done.succeeded) throw new Error("the conditions hold");
    expectTypeOf(done.results).toEqualTypeOf<readonly [PutStepResult, PutStepResult]>();
    expect(done.results).toEqual([
      { type: "put", version: done.version },
      { type: "put", version: done.version },
    ]);
    const refused = await order();
    if (refused.succeeded) throw new Error("the conditions do not hold");
    const [stock, orders] = refused.results;
    expectTypeOf<typeof stock>().toEqualTypeOf<GetStepResult | ForgottenStepResult>();
    expect(stock.type === "get" && [stock.found?.text(), stock.found?.version]).toEqual(["1", done.version]);
    expect(orders.type === "range" && [orders.found[0]!.key, orders.found[0]!.json(), orders.more]).toEqual([
      "order:1",
      { pieces: 1 },
      false,
    ]);
  });

  test("is committed once, and cannot be awaited itself", async () => {
    const { client } = await start();
    const txn = client.txn().then(op.put("a", "1"), op.delete("none"), op.deleteRange({ start: "x", end: "z" }));
    const [first, again] = [await txn.commit(), await txn.commit()];
    expect(again).toBe(first);
    expect(first.results).toEqual([
      { type: "put", version: first.version },
      { type: "delete", deleted: false },
      { type: "deleteRange", deleted: 0 },
    ]);
    expect(() => txn.when(compare("a").exists())).toThrow("the transaction was sent");
    const asPromise = client.txn().then(op.get("a")) as unknown as Promise<unknown>;
    await failure("INVALID_ARGUMENT", Promise.resolve(asPromise), "call commit()");
  });

  test("compares values, versions, create versions and existence, of keys and spans", async () => {
    const { client } = await start();
    const created = await client.put("k/1", "v");
    const version = await client.put("k/1", "w");
    const judge = async (...conditions: Condition[]) =>
      (
        await client
          .txn()
          .when(...conditions)
          .commit()
      ).succeeded;
    expect(await judge(compare("k/1").value("=", "w"), compare("k/1").value("!=", "v"))).toBe(true);
    expect(await judge(compare("k/1").createVersion("=", created))).toBe(true);
    expect(await judge(compare({ prefix: "k/" }).version(">", created), compare("k/1").version("<", version + 1))).toBe(
      true,
    );
    expect(await judge(compare({ start: "k/", end: "k/2" }).exists(), compare("k/2").missing())).toBe(true);
    expect(await judge(compare({ prefix: "k/" }).missing())).toBe(false);
    expect(await judge(compare("k/1").version("!=", version))).toBe(false);
  });

  test("is refused before it is sent when an argument is wrong", async () => {
    const { client } = await start();
    expect(() => client.txn().when(compare("").missing())).toThrow("the key is empty");
    expect(() => client.txn().when(compare("a").version("=", -1))).toThrow("version must be a whole number");
    expect(() => client.txn().when(compare("a").value("<" as "=", "x"))).toThrow("the relation of value");
    expect(() => client.txn().when(compare({}).missing())).toThrow("a span of keys needs");
    expect(() => client.txn().then(op.range({ prefix: "a", start: "b" } as { prefix: string }))).toThrow("not both");
    expect(() => client.txn().else({ type: "swap" } as unknown as ReturnType<typeof op.get>)).toThrow(
      "the type of a step",
    );
    await failure("INVALID_ARGUMENT", client.txn().commit(), "the transaction is empty");
    await failure(
      "INVALID_ARGUMENT",
      client.txn().then(op.put("a", "1"), op.put("a", "2")).commit(),
      "change the same key",
    );
  });

  test("fails with the limit's name when it would return too much", async () => {
    const { client } = await start();
    const long = "x".repeat(limits.valueBytes);
    await client.put("a", long);
    await client.put("b", long);
    const txn = client.txn().then(op.put("c", "1"), op.get("a"), op.get("b"));
    await failure("LIMIT_EXCEEDED", txn.commit(), "txnResultBytes");
    expect(await client.get("c")).toBeUndefined();
  });

  test("is made again when only its reads are forgotten; results of writes are never made again", async () => {
    const node = await FakeNode.start("n1");
    let txns = 0;
    node.answer = ({ call }) => {
      if (call.case !== "txn") return acknowledge({ call } as never);
      txns++;
      const isForgotten = txns === 1 || call.value.then.length > 1;
      const results = call.value.then.map(() => ({ outcome: 1, valueForgotten: isForgotten }));
      return { case: "txn", value: { succeeded: true, version: 9n, results } } as AnswerInit["answer"];
    };
    const client = clientOf(node.address);
    const read = await client.txn().then(op.get("a")).commit();
    expect([txns, read.results[0]?.type]).toEqual([2, "get"]);
    const mixed = await client.txn().then(op.put("a", "1"), op.get("b")).commit();
    expect([txns, mixed.results[1]?.type]).toEqual([3, "forgotten"]);
  });
});

describe("a put or a delete with ifVersion", () => {
  test("changes the key only if that is its version, and else tells the present one", async () => {
    const { client } = await start();
    const created = await client.put("a", "1", { ifVersion: 0 });
    expect(created).toEqual({ swapped: true, version: expect.any(Number) });
    const taken = await client.put("a", "2", { ifVersion: 0 });
    expect(taken.swapped === false && taken.current?.text()).toBe("1");
    const kept = await client.delete("a", { ifVersion: 1_000 });
    expect(kept.deleted === false && kept.current?.text()).toBe("1");
    expect(await client.delete("none", { ifVersion: 0 })).toEqual({ deleted: false, current: undefined });
    const version = created.swapped ? created.version : 0;
    expect(await client.delete("a", { ifVersion: version })).toEqual({ deleted: true });
    expect(await client.get("a")).toBeUndefined();
  });
});

describe("a function that runs atomically", () => {
  test("counts right under many writers", async () => {
    const { client, server } = await start();
    const clients = [client, clientOf(server.address), clientOf(server.address)];
    const increment = (by: typeof client) =>
      by.atomically(
        async (tx) => {
          const count = Number((await tx.get("count"))?.text() ?? 0);
          tx.put("count", `${count + 1}`);
          return count;
        },
        { attempts: 1_000 },
      );
    const seen = await Promise.all(clients.flatMap((by) => Array.from({ length: 8 }, () => increment(by))));
    expect(seen.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 24 }, (_, at) => at));
    expect((await client.get("count"))?.text()).toBe("24");
  });

  test("reads its own writes, and writes nothing when it throws", async () => {
    const { client } = await start();
    await client.put("a", "1");
    await client.put("b", "2");
    const result = await client.atomically(async (tx) => {
      tx.put("a", "3");
      tx.delete("b");
      return [(await tx.get("a"))?.text(), await tx.get("b"), await tx.get("c")];
    });
    expect(result).toEqual(["3", undefined, undefined]);
    expect([(await client.get("a"))?.text(), await client.get("b")]).toEqual(["3", undefined]);
    const broken = client.atomically(async (tx) => {
      await tx.get("a");
      tx.put("a", "4");
      throw new Error("no");
    });
    await expect(broken).rejects.toThrow("no");
    expect((await client.get("a"))?.text()).toBe("3");
  });

  test("runs again when a key that it only read has changed, and gives up after its attempts", async () => {
    const { client } = await start();
    let runs = 0;
    const disturbed = (times: number, attempts: number) =>
      client.atomically(
        async (tx) => {
          runs++;
          const guard = await tx.get("guard");
          if (runs <= times) await client.put("guard", `${runs}`);
          tx.put("result", guard?.text() ?? "none");
        },
        { attempts },
      );
    await disturbed(2, 3);
    expect([runs, (await client.get("result"))?.text()]).toEqual([3, "2"]);
    runs = 0;
    await failure("CONFLICT", disturbed(100, 4), "in each of 4 attempts");
    expect(runs).toBe(4);
    expect((await client.get("result"))?.text()).toBe("2");
  });

  test("is not run again when the outcome of its commit is unknown", async () => {
    const node = await FakeNode.start("n1");
    node.answer = (call) => (call.call.case === "txn" ? undefined : acknowledge(call));
    const client = clientOf(node.address);
    let runs = 0;
    const controller = new AbortController();
    const work = client.atomically(
      (tx) => {
        runs++;
        tx.put("a", "1");
      },
      { signal: controller.signal },
    );
    await until(() => node.calls.some(({ call }) => call.case === "txn"), "the commit has arrived");
    controller.abort();
    await failure("OUTCOME_UNKNOWN", work);
    expect(runs).toBe(1);
  });

  test("cannot use its transaction after it has ended", async () => {
    const { client } = await start();
    const tx = await client.atomically((tx) => tx);
    expect(() => tx.put("a", "1")).toThrow("the function has ended");
    await failure("FAILED_PRECONDITION", tx.get("a"));
  });
});
