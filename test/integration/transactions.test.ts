import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CairnClient } from "../../src/client/client.js";
import { compare } from "../../src/client/txn/conditions.js";
import { op } from "../../src/client/txn/steps.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";

let directory: string;
let cluster: ProcessCluster;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-transactions-"));
  cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], ["--tick-ms", "50"]);
  // A follower that has heard of no entry yet is new, and refuses calls.
  await cluster.settled();
});

afterAll(async () => {
  await cluster?.close();
  await rm(directory, { recursive: true, force: true });
});

test("a follower passes a transaction on to the leader, and applies it at the same index", async () => {
  const follower = (await cluster.followers())[0]!;
  const [a, b] = [Buffer.from("unary/a"), Buffer.from("unary/b")];
  const put = (key: Buffer) => ({ operation: { case: "put", value: { key, value: key } } }) as const;
  const compare = [{ keys: { prefix: Buffer.from("unary/") }, expected: { case: "exists", value: false } } as const];
  const { succeeded, version, header } = await follower.kv.txn({ compare, then: [put(a), put(b)] });
  expect([succeeded, header?.nodeId]).toEqual([true, (await cluster.leader()).id]);
  for (const key of [a, b]) {
    const { kv } = await follower.kv.get({ key, stale: true, minAppliedIndex: version });
    expect(kv?.version).toBe(version);
  }
});

test("transfers between accounts keep their sum, and each takes place once, while leaders are killed", async () => {
  const endpoints = [...cluster.running.values()].map(({ address }) => address);
  await using client = new CairnClient({ endpoints, timeoutMs: 60_000 });
  const accounts = ["account/1", "account/2", "account/3"];
  await client
    .txn()
    .then(...accounts.map((account) => op.put(account, "100")))
    .commit();
  const transfer = (name: string, from: string, to: string) =>
    client.atomically(
      async (tx) => {
        const [ours, theirs] = await Promise.all([tx.get(from), tx.get(to)]);
        tx.put(from, `${Number(ours!.text()) - 1}`);
        tx.put(to, `${Number(theirs!.text()) + 1}`);
        tx.put(`receipt/${name}`, "");
      },
      { attempts: 1_000 },
    );
  const transfers = async (at: number) => {
    for (let n = 0; n < 20; n++) await transfer(`${at}-${n}`, accounts[at]!, accounts[(at + 1 + (n % 2)) % 3]!);
  };
  const all = Promise.all([0, 1, 2].map(transfers));
  for (let kills = 0; kills < 2; kills++) {
    const leader = await cluster.leader();
    await cluster.kill(leader.id);
    await cluster.startFounder(leader.id);
  }
  await all;
  const state = await client
    .txn()
    .when(compare({ prefix: "receipt/" }).exists())
    .then(op.range({ prefix: "account/" }), op.range({ prefix: "receipt/" }, { keysOnly: true }))
    .commit();
  if (!state.succeeded) throw new Error("there are receipts");
  const [sums, receipts] = state.results;
  expect(sums.type === "range" && sums.found.reduce((sum, entry) => sum + Number(entry.text()), 0)).toBe(300);
  expect(receipts.type === "range" && receipts.found.length).toBe(60);
});
