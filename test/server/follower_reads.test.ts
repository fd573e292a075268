import { describe, expect, test } from "vitest";
import type { SessionRequest } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../src/base/errors.js";
import type { SessionAnswer } from "../../src/server/kv/session_calls.js";
import { failure, untilAsync } from "../support/conditions.js";
import { ActingLeader, bytes, putEntries, text } from "../support/nodes/acting_leader.js";
import { fakeLeader, follower } from "../support/nodes/forwarding.js";
import { CLUSTER } from "../support/nodes/nodes.js";
import { collect, serve } from "../support/nodes/served_node.js";

/** A leader that answers questions for its read index, and passes all else on to `get`. */
async function indexLeader(index: number | CairnError, { clusterId = CLUSTER } = {}) {
  const asked: SessionRequest[] = [];
  let gets = 0;
  const leader = await fakeLeader({
    async *session(requests) {
      for await (const request of requests) {
        asked.push(request);
        const answers = request.calls.map(({ sequence, call }): SessionAnswer => {
          if (call.case === "get") {
            gets++;
            return { sequence, answer: { case: "get" as const, value: { kv: { value: bytes("the leader's") } } } };
          }
          if (typeof index === "number") {
            return { sequence, answer: { case: "readIndex" as const, value: { index: BigInt(index) } } };
          }
          return { sequence, answer: { case: "error" as const, value: { code: index.code, message: index.text } } };
        });
        yield { header: { nodeId: "n7", leaderId: "n7", clusterId }, answers };
      }
    },
  });
  const questions = () => asked.flatMap(({ calls }) => calls).filter(({ call }) => call.case === "readIndex").length;
  return { ...leader, questions, gets: () => gets };
}

/** A follower of that leader, with three entries of it applied. */
async function followerWithEntries(address: string) {
  const member = await follower(address);
  await new ActingLeader(member.node, 3, "n7").replicate(putEntries(1, 3, 3));
  return member;
}

describe("a linearizable read that reaches a follower", () => {
  test("is answered by the follower's state, by the read index that the leader tells", async () => {
    const leader = await indexLeader(3);
    const { kv } = await followerWithEntries(leader.address);
    // On a machine that stands still for a moment, the read is passed on.
    let found = await kv.get({ key: bytes("k3") });
    await untilAsync(async () => {
      found = await kv.get({ key: bytes("k3") });
      return found.header!.nodeId === "n1";
    }, "the follower answers");
    expect([text(found.kv?.value), found.header]).toMatchObject([
      "3.3",
      { nodeId: "n1", leaderId: "n7", leaderAddress: leader.address, clusterId: CLUSTER, appliedIndex: 3n },
    ]);
    const parts = await collect(kv.range({ limit: 2n }));
    expect(parts).toMatchObject([{ header: { nodeId: "n1" }, more: true }]);
    expect(parts[0]!.kvs.map(({ key }) => text(key))).toEqual(["k1", "k2"]);
  });

  test("is passed on when the follower does not get there in time", async () => {
    const leader = await indexLeader(4);
    const { kv } = await followerWithEntries(leader.address);
    expect(await kv.get({ key: bytes("k4") })).toMatchObject({ header: { nodeId: "n7" } });
    expect([leader.questions(), leader.gets()]).toEqual([1, 1]);
  });

  test("is passed on to a leader of an earlier version, which is asked only once", async () => {
    const leader = await indexLeader(new CairnError("INVALID_ARGUMENT", "of a kind that this version does not know"));
    const { kv } = await followerWithEntries(leader.address);
    for (let read = 1; read <= 3; read++) {
      expect(await kv.get({ key: bytes("k3") })).toMatchObject({ header: { nodeId: "n7" } });
    }
    expect([leader.questions(), leader.gets()]).toEqual([1, 3]);
  });

  test("fails with the refusal of a leader that was deposed, and with its hint", async () => {
    const leader = await indexLeader(new CairnError("NOT_LEADER", "node n7 is not the leader"));
    const { kv } = await followerWithEntries(leader.address);
    await failure("NOT_LEADER", kv.get({ key: bytes("k3") }), "node n7 is not the leader");
  });

  test("is not answered by the index of another cluster", async () => {
    const leader = await indexLeader(1, { clusterId: "other" });
    const { kv } = await followerWithEntries(leader.address);
    await failure("WRONG_CLUSTER", kv.get({ key: bytes("k3") }));
  });

  test("is checked like any other: a key that is too long is refused", async () => {
    const leader = await indexLeader(3);
    const { kv } = await followerWithEntries(leader.address);
    await failure("LIMIT_EXCEEDED", kv.get({ key: new Uint8Array(2000) }));
    await failure("LIMIT_EXCEEDED", collect(kv.range({ after: new Uint8Array(2000) })));
  });
});

describe("the question for a read index", () => {
  test("is answered by a leader on a stream of a member, and refused on a client's", async () => {
    const { kv } = await serve({ lead: true });
    const ask = [{ sequence: 1n, call: { case: "readIndex" as const, value: {} } }];
    const answerTo = async (first: object) => {
      const stream = kv.session();
      await stream.send({ ...first, calls: ask });
      stream.end();
      const responses = await collect(stream.responses);
      return responses.flatMap(({ answers }) => answers)[0]!.answer;
    };
    expect(await answerTo({ forwardedBy: "n2", clusterId: CLUSTER })).toMatchObject({
      case: "readIndex",
      value: { index: 1n },
    });
    expect(await answerTo({ clientId: "c" })).toMatchObject({ case: "error", value: { code: "INVALID_ARGUMENT" } });
    await failure("WRONG_CLUSTER", answerTo({ forwardedBy: "n2", clusterId: "other" }));
  });

  test("is refused by a node that does not lead", async () => {
    const { kv } = await serve();
    const stream = kv.session();
    const call = { case: "readIndex" as const, value: {} };
    await stream.send({ forwardedBy: "n2", clusterId: CLUSTER, calls: [{ sequence: 1n, call }] });
    stream.end();
    const answers = (await collect(stream.responses)).flatMap((response) => response.answers);
    expect(answers).toMatchObject([{ answer: { case: "error", value: { code: "NOT_LEADER" } } }]);
  });
});
