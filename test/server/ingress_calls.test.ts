import { setMaxListeners } from "node:events";
import { afterEach, describe, expect, test, vi } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { openChannel } from "../../src/rpc/client.js";
import { ForwardedCalls } from "../../src/server/kv/forwarded_calls.js";
import { failure, isSettled, manyTurns, until } from "../support/conditions.js";
import { bytes, readValue, text } from "../support/nodes/acting_leader.js";
import { fakeLeader, follower } from "../support/nodes/forwarding.js";
import { serve } from "../support/nodes/served_node.js";
import { type CallInit, deleteCall, getCall, putCall, RawSession } from "./session_support.js";

afterEach(() => {
  vi.restoreAllMocks();
});

type Served = Pick<Awaited<ReturnType<typeof serve>>, "kv">;

/** The stream of an ingress process, in the hands of a test. */
function ingressSession({ kv }: Served) {
  const session = new RawSession(kv, "");
  const send = (calls: readonly CallInit[], abandoned: readonly bigint[] = []) =>
    session.stream.send({ ingress: true, calls: [...calls], abandoned: [...abandoned] });
  return { session, send };
}

describe("the calls of an ingress process", () => {
  test("are carried out with the request id that their client gave, if any", async () => {
    const { kv, node } = await serve({ lead: true });
    const { session, send } = ingressSession({ kv });
    const requestId = { clientId: "c", sequence: 7n, since: 1n };
    const swap = (sequence: bigint): CallInit => {
      const expected = { case: "version", value: 0n } as const;
      const value = { key: bytes("once"), expected, newValue: bytes("1"), requestId };
      return { sequence, call: { case: "compareAndSet", value } };
    };
    await send([putCall(1, "a", "1"), swap(2n), deleteCall(3, "none")]);
    expect(await session.answerTo(1)).toMatchObject({ case: "put" });
    const first = await session.answerTo(2);
    await send([swap(4n), getCall(5, "a"), getCall(6, "a", { stale: true })]);
    expect(await session.answerTo(4)).toEqual(first);
    for (const read of [5, 6]) {
      const got = await session.answerTo(read);
      expect(got.case === "get" && text(got.value.kv?.value)).toBe("1");
    }
    expect(await session.answerTo(3)).toMatchObject({ case: "delete", value: { deleted: false } });
    expect(readValue(node, "once")).toBe("1");
    await session.end();
  });

  test("fail one by one, with the errors of unary calls", async () => {
    const { kv } = await serve({ lead: true });
    const { session, send } = ingressSession({ kv });
    await send([putCall(1, ""), putCall(2, "a"), { sequence: 3n, call: { case: "txn", value: {} } }, { sequence: 4n }]);
    const unary = await failure("INVALID_ARGUMENT", kv.put({ key: bytes("") }));
    expect(await session.errorOf(1)).toMatchObject({ code: "INVALID_ARGUMENT", message: unary.text });
    expect(await session.answerTo(2)).toMatchObject({ case: "put" });
    const empty = await failure("INVALID_ARGUMENT", kv.txn({}));
    expect(await session.errorOf(3)).toMatchObject({ code: "INVALID_ARGUMENT", message: empty.text });
    expect(await session.errorOf(4)).toMatchObject({ code: "UNIMPLEMENTED" });
    await session.end();
  });

  test("go from a follower to its leader once, and come back with the leader's header", async () => {
    const leader = await serve({ id: "n7", lead: true });
    const { kv } = await follower(leader.server.address);
    const { session, send } = ingressSession({ kv });
    await send([putCall(1, "a", "1"), getCall(2, "b", { stale: true })]);
    const headers = new Map<string, string>();
    while (headers.size < 2) {
      const message = await session.next();
      for (const { answer } of message!.answers) headers.set(`${answer.case}`, message!.header!.nodeId);
    }
    expect(Object.fromEntries(headers)).toEqual({ put: "n7", get: "n1" });
    expect(readValue(leader.node, "a")).toBe("1");
    await session.end();
  });

  test("are not passed on a second time by a node that does not lead any longer", async () => {
    const stranger = await follower("127.0.0.1:1");
    const { kv } = await follower(stranger.server.address);
    const { session, send } = ingressSession({ kv });
    await send([putCall(1, "a", "1")]);
    expect(await session.errorOf(1)).toMatchObject({ code: "NOT_LEADER", leaderId: "n7" });
    await session.end();
  });

  test("leave room when they are abandoned, so that others are carried out", async () => {
    const { kv, node } = await serve({ lead: true });
    const waits = vi.spyOn(node, "waitApplied");
    const { session, send } = ingressSession({ kv });
    const most = limits.sessionCallsInFlight;
    const future = Array.from({ length: most }, (_, at) =>
      getCall(at + 1, "a", { stale: true, minAppliedIndex: 1_000_000n }),
    );
    await send(future);
    await until(() => waits.mock.calls.length === most, "all of them wait");
    const sequences = future.map(({ sequence }) => sequence!);
    await send([putCall(most + 1, "a", "1")], sequences);
    expect(await session.answerTo(most + 1)).toMatchObject({ case: "put" });
    const ended = await Promise.allSettled(waits.mock.results.map(({ value }) => value));
    expect(ended.filter(({ status }) => status === "rejected")).toHaveLength(most);
    await session.end();
    expect([...session.answers.keys()], "an abandoned call has no answer").toEqual([most + 1]);
  });

  test("end with their stream", async () => {
    const { kv, node } = await serve({ lead: true });
    const waits = vi.spyOn(node, "waitApplied");
    const { session, send } = ingressSession({ kv });
    await send([getCall(1, "a", { stale: true, minAppliedIndex: 1_000_000n })]);
    await until(() => waits.mock.calls.length === 1, "the read waits");
    session.stream.cancel();
    await failure("CANCELLED", waits.mock.results[0]!.value as Promise<void>);
  });
});

describe("an ingress process", () => {
  /** A node that greets and answers nothing, and the calls to it. */
  async function silentNode() {
    const received = { calls: 0, abandoned: [] as bigint[] };
    const { address } = await fakeLeader({
      async *session(requests) {
        for await (const { ingress, calls, abandoned } of requests) {
          if (ingress) yield { header: {} };
          received.calls += calls.length;
          received.abandoned.push(...abandoned);
        }
      },
    });
    const channel = openChannel(address);
    return { received, channel, calls: new ForwardedCalls({ ingress: true }, channel) };
  }

  test("has no more calls in flight than its node takes, and names those that it abandons", async () => {
    const { received, channel, calls } = await silentNode();
    const most = limits.sessionCallsInFlight;
    const callers = new AbortController();
    setMaxListeners(0, callers.signal);
    const all = Array.from({ length: most }, () => {
      const request = { case: "get", value: { key: bytes("k") } } as const;
      return failure("CANCELLED", calls.call(request, callers.signal));
    });
    const patient = calls.call({ case: "get", value: { key: bytes("k") } }, new AbortController().signal);
    await until(() => received.calls === most, "as many as fit have arrived");
    await manyTurns();
    expect(received).toMatchObject({ calls: most, abandoned: [] });
    expect(await isSettled(patient)).toBe(false);
    callers.abort(new CairnError("CANCELLED", "the caller gave up"));
    await Promise.all(all);
    await until(() => received.calls === most + 1, "the last call has its room");
    expect(received.abandoned).toHaveLength(most);
    channel.close();
    await failure("CANCELLED", patient);
  });

  test("refuses a call that exceeds a message within the stream, and sends the next one", async () => {
    const { received, channel, calls } = await silentNode();
    const never = new AbortController().signal;
    const value = new Uint8Array(limits.messageBytes);
    await failure(
      "LIMIT_EXCEEDED",
      calls.call({ case: "put", value: { key: bytes("k"), value } }, never),
      "messageBytes",
    );
    const next = calls.call({ case: "put", value: { key: bytes("k") } }, never);
    await until(() => received.calls === 1, "the next one has arrived");
    channel.close();
    await failure("OUTCOME_UNKNOWN", next, "passed on to the node");
  });
});
