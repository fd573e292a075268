import { describe, expect, test } from "vitest";
import { electionPrefix, leadersIn, takePart } from "../../../src/client/locks/election.js";
import { KeyValue, StoredValue } from "../../../src/client/values.js";
import type { WatchEvent } from "../../../src/client/watch/watch_events.js";
import { failure, isSettled, ManualClock, until } from "../../support/conditions.js";
import { MemoryCluster } from "./support.js";

function fixture() {
  const cluster = new MemoryCluster();
  return { cluster, client: cluster.client(new ManualClock()) };
}

describe("an election", () => {
  test("is won by one candidate at a time, and never by a second while the first leads", async () => {
    const { cluster, client } = fixture();
    const first = await takePart(client, "e", "one", {});
    const second = takePart(client, "e", "two", {});
    await until(() => cluster.watches === 1, "the second waits");
    expect(await isSettled(second)).toBe(false);
    await first.resign();
    const leader = await second;
    expect(leader.token).toBeGreaterThan(first.token);
    expect(cluster.keys.get(leader.key)?.value.toString()).toBe("two");
    expect([...cluster.keys.keys()].every((key) => key.startsWith(electionPrefix("e")))).toBe(true);
  });

  test("lets only its leader change what observers see", async () => {
    const { cluster, client } = fixture();
    const old = await takePart(client, "e", "one", {});
    await old.proclaim("one again");
    expect(cluster.keys.get(old.key)).toMatchObject({ createVersion: old.token });
    cluster.end(Number.parseInt(old.key.split("/").at(-1)!, 16));
    const leader = await takePart(client, "e", "two", {});
    await failure("LEASE_NOT_FOUND", old.proclaim("mine"), "does not lead");
    await leader.proclaim("new");
    expect([...cluster.keys.values()].map(({ value }) => value.toString())).toEqual(["new"]);
  });
});

describe("the leaders that an observer sees", () => {
  const bytes = (text: string) => Buffer.from(text);
  const common = (key: string, index: number) => ({
    key,
    keyBytes: bytes(key),
    index,
    token: `c:${index}`,
    more: false,
    previous: undefined,
    previousKnown: false,
    leaseId: 1,
  });
  const existing = (key: string, version: number, createVersion: number): WatchEvent => ({
    type: "existing",
    key,
    keyBytes: bytes(key),
    value: new KeyValue(bytes(key), bytes(`${key}${version}`), version, createVersion),
    leaseId: 1,
  });
  const listed = (index: number): WatchEvent => ({ type: "listed", index, token: `c:${index}` });
  const put = (key: string, index: number, created = true): WatchEvent => ({
    type: "put",
    ...common(key, index),
    value: new StoredValue(bytes(`${key}${index}`), index),
    created,
  });
  const gone = (key: string, index: number, more = false): WatchEvent => ({
    type: "delete",
    ...common(key, index),
    more,
    expired: false,
  });

  async function seen(events: readonly WatchEvent[]): Promise<(string | undefined)[]> {
    async function* stream() {
      yield* events;
    }
    const leaders = [];
    for await (const leader of leadersIn(stream())) leaders.push(leader && `${leader.token} ${leader.value.text()}`);
    return leaders;
  }

  test("begin with the present one, which is the oldest key and not the first or the newest", async () => {
    expect(await seen([existing("a", 7, 7), existing("b", 9, 5), existing("c", 6, 6), listed(9)])).toEqual(["5 b9"]);
    expect(await seen([listed(9)])).toEqual([undefined]);
  });

  test("change with the leader's end and its value, and not with those who wait", async () => {
    const events = [listed(1), put("b", 2), put("a", 3), put("a", 4, false), put("b", 5, false), gone("b", 6)];
    expect(await seen([...events, gone("a", 7)])).toEqual([undefined, "2 b2", "2 b5", "3 a4", undefined]);
  });

  test("never are a leader whose key is removed at the same index as another's", async () => {
    const events = [existing("a", 1, 1), existing("b", 2, 2), existing("c", 3, 3), listed(3)];
    expect(await seen([...events, gone("a", 4, true), gone("b", 4)])).toEqual(["1 a1", "3 c3"]);
  });

  test("are told after a restart of the watch when they differ, and only then", async () => {
    const before = [existing("a", 1, 1), existing("b", 2, 2), listed(2)];
    const restarted = { type: "restarted", reason: undefined } as unknown as WatchEvent;
    expect(await seen([...before, restarted, existing("a", 1, 1), listed(8)])).toEqual(["1 a1"]);
    expect(await seen([...before, restarted, existing("b", 2, 2), listed(8)])).toEqual(["1 a1", "2 b2"]);
  });
});
