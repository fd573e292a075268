import { describe, expect, test } from "vitest";
import { type KeepAliveResponse, LeaseService } from "../../../gen/cairn/v1/lease_pb.js";
import { limits } from "../../../src/base/limits.js";
import { grpcTransport } from "../../../src/peers/grpc_transport.js";
import { failure, until } from "../../support/conditions.js";
import { bytes, contentsOf, text } from "../../support/nodes/acting_leader.js";
import { follower } from "../../support/nodes/forwarding.js";
import { memoryHome } from "../../support/nodes/nodes.js";
import { collect, serve, serveNode } from "../../support/nodes/served_node.js";
import { freePorts } from "../../support/processes/process_cluster.js";

type Served = Pick<Awaited<ReturnType<typeof serve>>, "channel">;
const leasesOf = ({ channel }: Served) => channel.client(LeaseService);
const key = bytes("key");

/** A stream of keep-alives, and its answers one by one. */
function keepingStream({ channel }: Served) {
  const stream = channel.client(LeaseService).keepAlive();
  const responses = stream.responses[Symbol.asyncIterator]();
  return {
    stream,
    async keep(...leaseIds: bigint[]): Promise<KeepAliveResponse> {
      await stream.send({ leaseIds });
      const { value } = await responses.next();
      return value;
    },
    next: () => responses.next(),
  };
}

/** A leader, and a follower that passes calls on to it. */
async function pair() {
  const leader = await serve({ lead: true });
  return { leader, follower: await follower(leader.server.address) };
}

describe.each(["at the leader", "at a follower"])("the lease service %s", (place) => {
  const served = async () => {
    const both = await pair();
    return { leader: both.leader, asked: place === "at the leader" ? both.leader : both.follower };
  };

  test("grants, reports, lists and revokes leases", async () => {
    const { leader, asked } = await served();
    const leases = leasesOf(asked);
    const { leaseId, ttlMs } = await leases.grant({ ttlMs: 60_000 });
    const other = await leases.grant({ ttlMs: 5_000 });
    expect(ttlMs).toBe(60_000);
    await asked.kv.put({ key, value: bytes("1"), leaseId });
    expect((await leader.kv.get({ key })).kv).toMatchObject({ leaseId });
    const { lease, keys, header } = await leases.timeToLive({ leaseId, keys: true });
    expect(header!.nodeId).toBe(leader.node.id);
    expect(lease).toMatchObject({ leaseId, found: true, ttlMs: 60_000, keyCount: 1 });
    expect(lease!.remainingMs).toBeGreaterThan(50_000);
    expect(lease!.remainingMs).toBeLessThanOrEqual(60_000);
    expect(keys.map(text)).toEqual(["key"]);
    const listed = (await collect(leases.listLeases({}))).flatMap((part) => part.leases);
    expect(listed.map(({ leaseId, keyCount }) => [leaseId, keyCount])).toEqual([
      [leaseId, 1],
      [other.leaseId, 0],
    ]);
    const [second] = await collect(leases.listLeases({ after: leaseId, limit: 1n }));
    expect(second!.leases.map(({ leaseId }) => leaseId)).toEqual([other.leaseId]);
    expect(await leases.revoke({ leaseId })).toMatchObject({ deleted: 1n });
    expect(contentsOf(leader.node)).toEqual([]);
    await failure("LEASE_NOT_FOUND", leases.revoke({ leaseId }), "does not exist, or has ended");
    await failure("LEASE_NOT_FOUND", leases.timeToLive({ leaseId }), `lease ${leaseId} does not exist`);
  });

  test("keeps leases alive over one stream, and answers each request in order", async () => {
    const { leader, asked } = await served();
    const leases = leasesOf(asked);
    const ids = [];
    for (let n = 0; n < 3; n++) ids.push((await leases.grant({ ttlMs: 5_000 })).leaseId);
    const { keep, stream, next } = keepingStream(asked);
    const unknown = 999_999n;
    const kept = await keep(ids[1]!, unknown, ids[0]!);
    expect(kept.header!.nodeId).toBe(leader.node.id);
    expect(kept.leases).toMatchObject([
      { leaseId: ids[1], found: true, ttlMs: 5_000 },
      { leaseId: unknown, found: false, ttlMs: 0, remainingMs: 0 },
      { leaseId: ids[0], found: true },
    ]);
    expect(kept.leases[0]!.remainingMs).toBeGreaterThan(4_000);
    for (const leaseId of ids) await stream.send({ leaseIds: [leaseId, leaseId] });
    for (const leaseId of ids) expect((await next()).value.leases).toMatchObject([{ leaseId }, { leaseId }]);
    expect(leader.node.machine.lease(Number(ids[0]))!.keepAlives).toBe(2);
    stream.end();
    expect((await next()).done).toBe(true);
  });

  test("refuses requests that are not valid, and says why", async () => {
    const { leader, asked } = await served();
    const leases = leasesOf(asked);
    const { index } = leader.node.raft.log.last;
    await failure("LIMIT_EXCEEDED", leases.grant({ ttlMs: 999 }), "ttl_ms is 999; the limit leaseTtlMs is 1000");
    await failure("LIMIT_EXCEEDED", leases.grant({ ttlMs: 604_800_001 }), "the limit leaseTtlMsMax is 604800000");
    await failure("INVALID_ARGUMENT", leases.revoke({}), "lease_id is 0");
    await failure("INVALID_ARGUMENT", leases.timeToLive({}), "lease_id is 0");
    await failure("INVALID_ARGUMENT", keepingStream(asked).keep(), "no lease is named");
    await failure("INVALID_ARGUMENT", keepingStream(asked).keep(0n), "lease_id is 0");
    const many = Array.from({ length: limits.keepAliveLeases + 1 }, (_, at) => BigInt(at + 1));
    await failure("LIMIT_EXCEEDED", keepingStream(asked).keep(...many), "the limit keepAliveLeases is 1000");
    expect(leader.node.raft.log.last.index).toBe(index);
    await failure("LEASE_NOT_FOUND", asked.kv.put({ key, leaseId: 7n }), "nothing was changed");
    const swap = { key, expected: { case: "version", value: 0n }, leaseId: 7n } as const;
    await failure("LEASE_NOT_FOUND", asked.kv.compareAndSet(swap), "nothing was changed");
    const step = { operation: { case: "put", value: { key, leaseId: 7n } } } as const;
    await failure("LEASE_NOT_FOUND", asked.kv.txn({ then: [step] }), "nothing was changed");
    expect(contentsOf(leader.node)).toEqual([]);
  });

  test("a retried grant gives the same lease", async () => {
    const { leader, asked } = await served();
    const requestId = { clientId: "c", sequence: 1n, since: 1n };
    const [once, again] = [
      await leasesOf(asked).grant({ ttlMs: 5_000, requestId }),
      await leasesOf(asked).grant({ ttlMs: 5_000, requestId }),
    ];
    expect(again.leaseId).toBe(once.leaseId);
    expect(leader.node.machine.leaseCount).toBe(1);
  });
});

test("a conditional put, a compare-and-set and a transaction attach their keys", async () => {
  const { kv, channel, node } = await serve({ lead: true });
  const { leaseId } = await leasesOf({ channel }).grant({ ttlMs: 5_000 });
  await kv.put({ key: bytes("a"), ifVersion: 0n, leaseId });
  await kv.compareAndSet({ key: bytes("b"), expected: { case: "version", value: 0n }, leaseId });
  await kv.txn({ then: [{ operation: { case: "put", value: { key: bytes("c"), leaseId } } }] });
  expect(node.machine.leaseKeys(Number(leaseId)).map(text)).toEqual(["a", "b", "c"]);
});

test("a lease ends when its time is over, by the system's clock", async () => {
  const { kv, channel, node } = await serve({ lead: true });
  const { leaseId } = await leasesOf({ channel }).grant({ ttlMs: limits.leaseTtlMs });
  const start = performance.now();
  await kv.put({ key, leaseId });
  await until(() => node.machine.keyCount === 0, "the key is gone");
  expect(performance.now() - start).toBeGreaterThan(limits.leaseTtlMs - 100);
  expect(node.machine.leaseCount).toBe(0);
});

test("a stream of keep-alives ends with STOPPED when the node stops, after the answers to its requests", async () => {
  const served = await serve({ lead: true });
  const { leaseId } = await leasesOf(served).grant({ ttlMs: 60_000 });
  const { keep, next } = keepingStream(served);
  await keep(leaseId);
  const stopped = served.server.stop();
  await failure("STOPPED", next(), "the node is stopping");
  await stopped;
});

/** Three members at addresses of their own, one of which leads. */
async function members() {
  const home = memoryHome();
  const addresses = await freePorts(3).then((ports) => ports.map((port) => `127.0.0.1:${port}`));
  const membership = addresses.map((address, at) => ({ id: `n${at + 1}`, address, role: "voter" as const }));
  const settings = { members: membership, elections: "automatic", tickMs: 20, transport: grpcTransport() } as const;
  const started = [];
  for (const { id, address } of membership) {
    const node = await home.start({ id, ...settings });
    started.push({ id, node, ...(await serveNode(node, address)) });
  }
  const all = started;
  const leader = () => all.find(({ node }) => node.raft.isEstablishedLeader);
  const known = () => all.every(({ node }) => node.raft.leader === leader()?.id);
  const settled = async () => {
    await until(() => leader() !== undefined && known(), "one leads, and all know it");
    return leader()!;
  };
  return { all, settled };
}

test("the keep-alives of a follower's clients share one stream, which moves with the leader", async () => {
  const { all, settled } = await members();
  const before = await settled();
  const [asked, next] = all.filter(({ id }) => id !== before.id);
  const { leaseId } = await leasesOf(asked!).grant({ ttlMs: 60_000 });
  const streams = Array.from({ length: 5 }, () => keepingStream(asked!));
  const kept = await Promise.all(streams.map(({ keep }) => keep(leaseId)));
  for (const { leases, header } of kept) {
    expect(leases[0]!.found).toBe(true);
    expect(header!.nodeId).toBe(before.id);
  }
  await before.node.transferLeadership(next!.id);
  await settled();
  const moved = await streams[0]!.keep(leaseId);
  expect(moved.header!.nodeId).toBe(next!.id);
  expect(moved.leases[0]!.found).toBe(true);
});

test("a stream at a member that knows no leader ends with NOT_LEADER", async () => {
  const served = await serve();
  await failure("NOT_LEADER", keepingStream(served).keep(1n));
});
