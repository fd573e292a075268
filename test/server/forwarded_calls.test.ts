import { describe, expect, test } from "vitest";
import type { SessionRequest } from "../../gen/cairn/v1/kv_pb.js";
import { deferred, failure, until } from "../support/conditions.js";
import { bytes, readValue } from "../support/nodes/acting_leader.js";
import { fakeLeader, follower } from "../support/nodes/forwarding.js";
import { CLUSTER } from "../support/nodes/nodes.js";
import { serve } from "../support/nodes/served_node.js";

const key = bytes("key");

/** A leader that greets, records its messages, and answers none of them before it is told to. */
async function recordingLeader() {
  const messages: SessionRequest[] = [];
  const release = deferred();
  const { server, address } = await fakeLeader({
    async *session(requests) {
      for await (const request of requests) {
        messages.push(request);
        if (messages.length > 1) await release.promise;
        const put = { case: "put" as const, value: { version: 5n } };
        const answers = request.calls.map(({ sequence }) => ({ sequence, answer: put }));
        yield { header: { nodeId: "n7", leaderId: "n7", clusterId: CLUSTER }, answers };
      }
    },
  });
  return { server, address, messages, release };
}

describe("unary calls that reach a follower", () => {
  test("go to the leader over one stream; those that gather go in one message", async () => {
    const leader = await recordingLeader();
    const { kv } = await follower(leader.address);
    const first = kv.put({ key });
    await until(() => leader.messages.length === 2, "the first call has arrived");
    const more = Array.from({ length: 20 }, () => kv.put({ key }));
    leader.release.resolve();
    expect(await first).toMatchObject({ version: 5n, header: { nodeId: "n7" } });
    await Promise.all(more);
    expect(leader.messages[0]).toMatchObject({ forwardedBy: "n1", clusterId: CLUSTER, clientId: "", calls: [] });
    expect(leader.messages.slice(1).reduce((sum, { calls }) => sum + calls.length, 0)).toBe(21);
    expect(leader.messages.length).toBeLessThan(12);
  });

  test("keep the request id that their client gave, so that a retry has no second effect", async () => {
    const leader = await serve({ lead: true });
    const { kv } = await follower(leader.server.address);
    const requestId = { clientId: "c", sequence: 1n, since: 1n };
    const swap = { key, expected: { case: "version", value: 0n }, newValue: bytes("1"), requestId } as const;
    const [once, again] = [await kv.compareAndSet(swap), await kv.compareAndSet(swap)];
    expect([once.swapped, again.swapped, again.version]).toEqual([true, true, once.version]);
    expect(readValue(leader.node, "key")).toBe("1");
  });

  test("end with an unknown outcome when the stream breaks after a write was sent; a read has not happened", async () => {
    const leader = await recordingLeader();
    const { kv } = await follower(leader.address);
    const write = failure("OUTCOME_UNKNOWN", kv.put({ key }), "the write was passed on to the leader");
    const read = failure("UNREACHABLE", kv.get({ key }), "node n1 is not the leader");
    await until(() => leader.messages.flatMap(({ calls }) => calls).length >= 1, "a call has arrived");
    leader.server.forceShutdown();
    await Promise.all([write, read]);
  });
});
