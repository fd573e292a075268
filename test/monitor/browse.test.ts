import { describe, expect, test } from "vitest";
import { LeaseService } from "../../gen/cairn/v1/lease_pb.js";
import type { ShownKeys, ShownLeases } from "../../src/monitor/feed/shown.js";
import { monitorOf, shownLeader } from "./support.js";

describe("keys on the page", () => {
  test("come in pages, by prefix, with their values as text or digits", async () => {
    const { get, kv } = await shownLeader();
    for (let at = 0; at < 60; at++) await kv.put({ key: Buffer.from(`k/${at + 100}`), value: Buffer.from("v") });
    await kv.put({ key: Buffer.from([1, 255]), value: Buffer.from([0, 255]) });
    await kv.put({ key: Buffer.from("ä"), value: Buffer.from("ü".repeat(200)) });
    const ask = async (query: string) => (await (await get(`/keys?${query}`)).json()) as ShownKeys;
    const prefix = Buffer.from("k/").toString("base64url");
    const first = await ask(`prefix=${prefix}`);
    expect(first.keys).toHaveLength(50);
    expect(first.hasMore).toBe(true);
    expect(first.keys[0]).toMatchObject({ key: "k/100", preview: "v", bytes: 1 });
    const second = await ask(`prefix=${prefix}&after=${first.keys.at(-1)!.id}`);
    expect(second.keys.map(({ key }) => key)).toEqual(Array.from({ length: 10 }, (_, at) => `k/${at + 150}`));
    expect(second.hasMore).toBe(false);
    const all = await ask("");
    expect(all.keys[0]).toMatchObject({ key: "0x01ff", preview: "0x00ff", bytes: 2 });
    const text = (await ask(`prefix=${Buffer.from("ä").toString("base64url")}`)).keys[0]!;
    expect(text).toMatchObject({ key: "ä", bytes: 400, preview: `${"ü".repeat(60)}…` });
  });

  test("are not shown by a node that is starting", async () => {
    const { get } = await monitorOf(() => undefined);
    expect((await get("/keys")).status).toBe(404);
    expect((await get("/leases")).status).toBe(404);
  });
});

test("the page names the holder of a lock, the one that came first, and the leases", async () => {
  const { get, kv, channel } = await shownLeader();
  const leases = channel.client(LeaseService);
  const ids = [(await leases.grant({ ttlMs: 60_000 })).leaseId, (await leases.grant({ ttlMs: 60_000 })).leaseId];
  const put = (key: string, value: string, leaseId: bigint) =>
    kv.put({ key: Buffer.from(key), value: Buffer.from(value), leaseId });
  const { version } = (await put("_lock/a%2Fb/2", "first", ids[1]!)) as { version: bigint };
  await put("_lock/a%2Fb/1", "second", ids[0]!);
  const shown = (await (await get("/leases")).json()) as ShownLeases;
  expect(shown.queues).toEqual([{ kind: "lock", name: "a/b", holder: "first", token: Number(version), waiting: 1 }]);
  expect(shown.leases.map(({ ttlMs, keys }) => [ttlMs, keys])).toEqual([
    [60_000, 1],
    [60_000, 1],
  ]);
  expect(shown.hasMore).toBe(false);
});
