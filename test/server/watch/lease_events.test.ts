import { describe, expect, test } from "vitest";
import { encodeCommand } from "../../../src/machine/kv/command.js";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import { type CommandInit, expire, grant, keepAlive, leasedPut, newest } from "../../support/machines/machines.js";
import { bytes } from "../../support/nodes/acting_leader.js";
import { homes } from "../../support/nodes/nodes.js";
import { serveNode } from "../../support/nodes/served_node.js";
import { RawWatch } from "./watch_support.js";

async function propose(node: KeyValueNode, operation: Parameters<typeof newest>[0]): Promise<number> {
  const { result } = await node.propose(encodeCommand(newest(operation) as CommandInit));
  return Number(result.index);
}

/** All that a watch has told, as plain data. */
function events(watch: RawWatch) {
  return watch.answers
    .flatMap(({ events }) => events)
    .map(({ index, kv, deleted, expired, leaseId, previous, previousKnown }) => ({
      index: Number(index),
      key: Buffer.from(kv!.key).toString(),
      ...(deleted ? { deleted, expired } : { value: Buffer.from(kv!.value).toString() }),
      lease: Number(leaseId),
      ...(previousKnown && { previous: previous && Buffer.from(previous.value).toString() }),
    }));
}

describe.each(homes)("a watch with the $kind machine", ({ make }) => {
  test("tells which keys went with their lease, and whether it had expired, live and from the history", async () => {
    const home = await make();
    const node = await home.startLeader();
    const { kv } = await serveNode(node);
    const live = await new RawWatch(kv, { previous: true, progressMs: 100 }).reached(1);
    const first = node.machine.appliedIndex + 1;
    const [dying, revoked] = [await propose(node, grant(5_000)), await propose(node, grant(5_000))];
    for (const key of ["b", "a"]) await propose(node, leasedPut(key, "1", dying));
    await propose(node, leasedPut("c", "2", revoked));
    const detached = await propose(node, leasedPut("b", "3", 0));
    await propose(node, keepAlive(dying));
    await propose(node, expire([dying, 0]));
    const expiry = await propose(node, expire([dying, 1]));
    const revocation = await propose(node, { case: "leaseRevoke", value: { leaseId: BigInt(revoked) } });
    const refused = await propose(node, leasedPut("d", "4", dying));
    await live.reached(refused);
    expect(events(live)).toEqual([
      { index: dying + 2, key: "b", value: "1", lease: dying, previous: undefined },
      { index: dying + 3, key: "a", value: "1", lease: dying, previous: undefined },
      { index: dying + 4, key: "c", value: "2", lease: revoked, previous: undefined },
      { index: detached, key: "b", value: "3", lease: 0, previous: "1" },
      { index: expiry, key: "a", deleted: true, expired: true, lease: dying, previous: "1" },
      { index: revocation, key: "c", deleted: true, expired: false, lease: revoked, previous: "2" },
    ]);
    const resumed = await new RawWatch(kv, { startIndex: BigInt(first), progressMs: 100 }).reached(refused);
    expect(events(resumed)).toEqual(events(live).map(({ previous, ...event }) => event));
  });
});

test("the bytes of keys that go with a lease come in ascending order", async () => {
  const home = await homes[0]!.make();
  const node = await home.startLeader();
  const { kv } = await serveNode(node);
  const watch = await new RawWatch(kv).reached(1);
  const lease = await propose(node, grant(5_000));
  for (const key of ["z", "m", "a"]) await kv.put({ key: bytes(key), value: bytes("1"), leaseId: BigInt(lease) });
  const end = await propose(node, { case: "leaseRevoke", value: { leaseId: BigInt(lease) } });
  await watch.reached(end);
  const removed = events(watch).filter(({ index }) => index === end);
  expect(removed.map(({ key }) => key)).toEqual(["a", "m", "z"]);
});
