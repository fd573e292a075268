import { expect, test } from "vitest";
import { limitRefusals } from "../../../src/base/telemetry/refusals.js";
import { until, untilAsync } from "../../support/conditions.js";
import { call, GET, greeting, grpcMessage, guarded, openSession, openSocket, ping, VOTE } from "./support.js";

test.each(["connections", "connectionsPerAddress"] as const)(
  "a client above %s is told so, and its connection closed",
  async (name) => {
    const { address } = await guarded({ [name]: 2 });
    const before = limitRefusals.get(name);
    const [first, second, third] = [await openSession(address), await openSession(address), await openSession(address)];
    expect(await call(first, GET).end).toMatchObject({ status: 0 });
    expect(await call(second, GET).end).toMatchObject({ status: 0 });
    const refused = await call(third, GET).end;
    expect(refused).toMatchObject({ status: 8, code: "BUSY" });
    expect(refused.text).toContain(`the limit ${name} is 2`);
    await until(() => third.destroyed, "the connection is closed");
    expect(limitRefusals.get(name)).toBe(before + 1);
    // The others go on, and one that leaves makes room.
    second.destroy();
    await untilAsync(async () => (await call(await openSession(address), GET).end).status === 0, "there is room again");
    expect(await call(first, GET).end).toMatchObject({ status: 0 });
  },
);

test("a peer gets in although clients have all connections", async () => {
  const { address } = await guarded({ connections: 1 });
  const client = await openSession(address);
  expect(await call(client, GET).end).toMatchObject({ status: 0 });
  const peer = await openSession(address);
  expect(await call(peer, VOTE).end).toMatchObject({ status: 0 });
  // It is no way around the limit.
  expect((await call(peer, GET).end).text).toContain("the limit connections is 1");
});

test("peers have a limit of their own", async () => {
  const { address } = await guarded({ connections: 1, peerConnections: 1 });
  expect(await call(await openSession(address), GET).end).toMatchObject({ status: 0 });
  expect(await call(await openSession(address), VOTE).end).toMatchObject({ status: 0 });
  expect((await call(await openSession(address), VOTE).end).text).toContain("the limit peerConnections is 1");
});

test("above the room for peers, connections that pass for theirs have what clients have, and no more", async () => {
  let members = 1;
  const { address, guard } = await guarded({ connections: 1, peerRequestBytes: 1 }, undefined, {
    peerRoom: () => members,
  });
  expect(await call(await openSession(address), VOTE).end).toMatchObject({ status: 0 });
  // The room of a client takes the second, and a third has none.
  const second = await openSession(address);
  expect(await call(second, VOTE).end).toMatchObject({ status: 0 });
  const held = call(second, VOTE, grpcMessage(Buffer.alloc(1_000)).subarray(0, 100), { ends: false });
  await until(() => guard.requestsTaken === 1_000, "its message counts as a client's");
  held.stream.close();
  const third = await call(await openSession(address), VOTE).end;
  expect(third).toMatchObject({ status: 8, code: "BUSY" });
  expect(third.text).toContain("without certificates, it takes 1 (peerConnectionsPerMember, peerConnectionsSpare)");
  members = 2;
  expect(await call(await openSession(address), VOTE).end).toMatchObject({ status: 0 });
});

test("a connection is one of peers by what the server knows of it, too", async () => {
  const known = new Set<unknown>();
  const isPeer = (path: string, session: unknown) => path === VOTE && known.has(session);
  const { address, guard } = await guarded({ connections: 1 }, undefined, { isPeer });
  expect(await call(await openSession(address), GET).end).toMatchObject({ status: 0 });
  const stranger = await call(await openSession(address), VOTE).end;
  expect(stranger.text).toContain("the limit connections is 1");
  const before = new Set(guard.sessions);
  const peer = await openSession(address);
  for (const each of guard.sessions) if (!before.has(each)) known.add(each);
  expect(await call(peer, VOTE).end).toMatchObject({ status: 0 });
});

test("a connection above the limit that says nothing is closed, at once when more of them come", async () => {
  const { address } = await guarded({ connections: 1, lateConnections: 1, lateConnectionMs: 300 });
  const before = [limitRefusals.get("lateConnections"), limitRefusals.get("lateConnectionMs")] as const;
  await openSession(address);
  const [late, later] = [await openSession(address), await openSession(address)];
  await until(() => late.destroyed, "a later one has its place");
  await until(() => later.destroyed, "its time is over");
  const after = [limitRefusals.get("lateConnections"), limitRefusals.get("lateConnectionMs")];
  expect(after).toEqual([before[0] + 1, before[1] + 1]);
});

test("a connection that does not greet, or does not acknowledge the settings, is closed", async () => {
  const { address } = await guarded({ greetingMs: 100 });
  const good = await openSession(address);
  const [silent, deaf] = [openSocket(address, Buffer.alloc(0)), openSocket(address, greeting)];
  await until(() => silent.isClosed() && deaf.isClosed(), "both are closed");
  expect(await call(good, GET).end).toMatchObject({ status: 0 });
});

test("an idle connection is closed, and not one with a call under way", async () => {
  const { address } = await guarded({ connectionIdleMs: 100 }, { get: () => new Promise(() => {}) });
  const [idle, busy] = [await openSession(address), await openSession(address)];
  const waiting = call(busy, GET);
  await until(() => idle.destroyed, "the idle one is closed");
  expect(busy.closed || waiting.hasEnded()).toBe(false);
});

test("a connection with too many PING frames is closed", async () => {
  const { address } = await guarded({ controlFramesPerSecond: 100 });
  const { isClosed } = openSocket(address, Buffer.concat([greeting, ...Array.from({ length: 150 }, () => ping)]));
  await until(isClosed, "it is closed");
});
