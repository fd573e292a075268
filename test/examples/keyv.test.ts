import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { CairnClient } from "../../src/client.js";
import { inRepository, startNode } from "../support/processes/processes.js";

/** The part of Keyv's KeyvStoreAdapter that the test calls. */
interface StoreAdapter {
  namespace: string | undefined;
  get(key: string): Promise<string | undefined>;
  getMany(keys: readonly string[]): Promise<(string | undefined)[]>;
  set(key: string, value: string, ttl?: number): Promise<boolean>;
  setMany(entries: readonly { key: string; value: string; ttl?: number }[]): Promise<void>;
  has(key: string): Promise<boolean>;
  delete(key: string): Promise<boolean>;
  deleteMany(keys: readonly string[]): Promise<boolean>;
  clear(): Promise<void>;
  iterator(namespace?: string): AsyncGenerator<[string, string]>;
  on(event: "error", listener: (error: Error) => void): unknown;
}

test("the Keyv adapter stores, finds, lists and removes what Keyv hands it, and clears its own namespace only", async () => {
  const data = await mkdtemp(join(tmpdir(), "cairn-keyv-"));
  onTestFinished(() => rm(data, { recursive: true, force: true }));
  const { address } = await startNode({ id: "n1", data });
  const client = new CairnClient({ endpoints: [address], timeoutMs: 60_000 });
  onTestFinished(() => client.close());
  const { KeyvCairn } = (await import(inRepository("examples/keyv/keyv_cairn.mjs"))) as {
    KeyvCairn: new (client: CairnClient, options?: { stale?: boolean }) => StoreAdapter;
  };
  const store = new KeyvCairn(client);
  // As Keyv does.
  store.namespace = "cache";
  store.on("error", (error) => expect.fail(error.message));
  const value = (text: string) => JSON.stringify({ value: text, expires: null });

  expect(await store.get("cache:a")).toBeUndefined();
  expect(await store.has("cache:a")).toBe(false);
  expect(await store.set("cache:a", value("1"), 1_000)).toBe(true);
  expect(await store.get("cache:a")).toBe(value("1"));
  expect(await store.has("cache:a")).toBe(true);
  const many = Array.from({ length: 250 }, (_, at) => ({ key: `cache:many-${at}`, value: value(`${at}`) }));
  await store.setMany(many);
  expect(await store.getMany(["cache:many-7", "cache:none"])).toEqual([value("7"), undefined]);
  expect(await store.delete("cache:a")).toBe(true);
  expect(await store.delete("cache:a")).toBe(false);
  expect(await store.deleteMany(["cache:many-0", "cache:many-1"])).toBe(true);
  expect(await store.deleteMany(["cache:many-0", "cache:many-2"])).toBe(false);

  const found = [];
  for await (const entry of store.iterator("cache")) found.push(entry);
  const left = many.slice(3).map(({ key, value }) => [key, value]);
  expect(found.toSorted()).toEqual(left.toSorted());

  await store.set("cache2:a", value("other"));
  await client.put("cache:a", "not of Keyv");
  await store.clear();
  expect((await store.iterator().next()).done).toBe(true);
  expect(await store.get("cache2:a")).toBe(value("other"));
  expect((await client.get("cache:a"))?.text()).toBe("not of Keyv");

  const second = new KeyvCairn(client, { stale: true });
  expect(await second.get("cache2:a")).toBe(value("other"));
});
