import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { failure, isSettled, ManualClock, manyTurns, until } from "../support/conditions.js";
import { readValue } from "../support/nodes/acting_leader.js";
import { memoryHome } from "../support/nodes/nodes.js";
import { serve, serveNode } from "../support/nodes/served_node.js";
import { Random } from "../support/random.js";
import { acknowledge, clientOf, deadAddress, FakeNode, Relay, refuse } from "./support.js";

describe("a connection that breaks between the delivery of a call and its answer", () => {
  test("lets a write take effect once, and its caller gets the answer", async () => {
    const { node, server } = await serve({ lead: true });
    const relay = await Relay.to(server.address);
    const client = clientOf(relay.address);
    await client.put("a", "0");
    const { index } = node.raft.log.last;
    relay.holdAnswers();
    // A second execution would find "1" and answer that nothing was swapped.
    const swapped = client.compareAndSet("a", { value: "0" }, "1");
    await until(() => readValue(node, "a") === "1", "the write is applied");
    relay.cut();
    relay.passAnswers();
    expect(await swapped).toEqual({ swapped: true, version: index + 1 });
    // It was sent twice, and is twice in the log.
    expect(node.raft.log.last.index).toBe(index + 2);
    expect(relay.connections).toBe(2);
    expect((await client.get("a"))?.version).toBe(index + 1);
  });

  test("loses no answer and doubles no write, however often it breaks under many callers", async () => {
    const { node, server } = await serve({ lead: true, segmentBytes: limits.segmentBytes });
    const relay = await Relay.to(server.address);
    const client = clientOf(relay.address);
    const random = new Random(7);
    let running = true;
    let cuts = 0;
    const cutting = (async () => {
      while (running) {
        relay.holdAnswers();
        await manyTurns(random.whole(0, 12));
        relay.cut();
        relay.passAnswers();
        cuts++;
        await manyTurns(random.whole(20, 60));
      }
    })();
    const caller = async (name: string) => {
      for (let count = 0; count < 40; count++) {
        const key = `${name}-${count}`;
        const version = await client.put(key, `${count}`);
        // The counter goes up by exactly one each time, however often the call was sent.
        const expected = count === 0 ? ({ absent: true } as const) : { value: `${count - 1}` };
        expect(await client.compareAndSet(name, expected, `${count}`)).toMatchObject({ swapped: true });
        const found = await client.get(key);
        expect([found?.version, found?.createVersion, found?.text()]).toEqual([version, version, `${count}`]);
      }
    };
    await Promise.all(Array.from({ length: 8 }, (_, at) => caller(`caller-${at}`)));
    running = false;
    await cutting;
    expect(cuts).toBeGreaterThan(10);
    expect(relay.connections).toBeGreaterThan(10);
    expect(node.machine.keyCount).toBe(8 * 41);
    expect(node.machine.sessionCount).toBe(1);
  });
});

describe("a change of the leader", () => {
  test("is followed through any node, and calls go directly to the new leader from then on", async () => {
    const [leader, follower] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    follower.leader = { id: "n1", address: leader.address };
    const client = clientOf([follower.address, await deadAddress()]);
    for (let count = 1; count <= 3; count++) expect(await client.put("a", "")).toBe(count);
    expect([follower.calls.length, follower.opened, leader.opened]).toEqual([0, 1, 1]);
  });

  test("makes the client resend unanswered calls in order, with the same sequences", async () => {
    const [old, next] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    const client = clientOf([old.address, next.address]);
    await client.put("a", "0");
    // It answers one call of three, and then says that it does not lead any more.
    old.answer = ({ sequence, call }) => {
      if (sequence === 3n) return acknowledge({ sequence, call } as never);
      return sequence === 4n
        ? refuse("NOT_LEADER", { retryable: true, leaderId: "n2", leaderAddress: next.address })
        : undefined;
    };
    const calls = [client.put("b", "2"), client.put("c", "3"), client.compareAndSet("d", { absent: true }, "4")];
    expect(await Promise.all(calls)).toEqual([2, 3, { swapped: true, version: 4 }]);
    expect(old.sequences).toEqual([1, 2, 3, 4]);
    expect(next.sequences).toEqual([2, 4]);
    expect(next.messages.map(({ clientId }) => clientId).filter((id) => id !== "")).toEqual([client.clientId]);
    await until(() => old.open === 0, "the old stream is closed");
  });

  test("makes the client ask the nodes in turn when the hint is wrong or has no address", async () => {
    const [first, second, leader] = [
      await FakeNode.start("n1"),
      await FakeNode.start("n2"),
      await FakeNode.start("n3"),
    ];
    first.leader = { id: "n9", address: await deadAddress() };
    second.leader = { id: "n3", address: "" };
    const client = clientOf([first.address, second.address, leader.address]);
    expect(await client.put("a", "")).toBe(1);
    const nonsense = await FakeNode.start("n4");
    nonsense.leader = { id: "n9", address: "\u0000 no address" };
    expect(await clientOf([nonsense.address, leader.address]).put("a", "")).toBe(1);
  });

  test("keeps no client busy when two nodes each name the other", async () => {
    const clock = new ManualClock();
    const [one, two] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    one.leader = { id: "n2", address: two.address };
    two.leader = { id: "n1", address: one.address };
    const client = clientOf([one.address, two.address], { clock, random: () => 0.5 });
    const written = client.put("a", "");
    // The time limit, and a pause.
    await until(() => clock.pending === 2, "the client pauses");
    await manyTurns();
    expect(one.opened + two.opened).toBeLessThanOrEqual(6);
    one.leader = { id: "n1", address: one.address };
    clock.advance(1000);
    expect(await written).toBe(1);
  });

  test("keeps the client at an address that has answered rather than at the one that peers use", async () => {
    const [leader, follower] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    const client = clientOf([leader.address, follower.address]);
    await client.put("a", "");
    // Such as behind a NAT: only the endpoints that the client was given can be reached.
    leader.leader = { id: "n2", address: await deadAddress() };
    leader.endStreams();
    follower.leader = { id: "n1", address: await deadAddress() };
    await until(() => leader.open === 0, "the stream has ended");
    const written = client.put("b", "");
    await until(() => follower.opened > 0, "the follower is asked");
    leader.leader = { id: "n1", address: leader.address };
    expect(await written).toBe(2);
  });
});

describe("a node that refuses a call or is gone", () => {
  test("has a call that it answered with BUSY resent after the pause that it asks for, on the same stream", async () => {
    const clock = new ManualClock();
    const node = await FakeNode.start("n1");
    let refusals = 2;
    node.answer = (call) =>
      refusals-- > 0 ? refuse("BUSY", { retryable: true, retryAfterMs: 400 }) : acknowledge(call);
    const client = clientOf(node.address, { clock, random: () => 0 });
    const written = client.put("a", "");
    await until(() => node.calls.length === 1 && clock.pending === 3, "it was refused");
    clock.advance(399);
    await manyTurns();
    expect(node.calls).toHaveLength(1);
    clock.advance(1);
    await until(() => node.calls.length === 2 && clock.pending === 3, "it was sent again, and refused again");
    clock.advance(400);
    expect(await written).toBe(1);
    expect([node.sequences, node.opened]).toEqual([[1, 1, 1], 1]);
  });

  test("causes an error that says why and that nothing happened when it answers BUSY until the time is up", async () => {
    const clock = new ManualClock();
    const node = await FakeNode.start("n1");
    node.answer = () => refuse("BUSY", { retryable: true, retryAfterMs: 400 });
    const written = failure("TIMEOUT", clientOf(node.address, { clock }).put("a", "", { timeoutMs: 300 }));
    // The time limit, the watch over the stream, and the pause.
    await until(() => node.calls.length === 1 && clock.pending === 3, "it was refused");
    clock.advance(300);
    const error = await written;
    expect(error.text).toMatch(/^there was no answer in 300 ms; the last problem was: \[BUSY\]/);
    expect(error.cause).toMatchObject({ code: "BUSY" });
  });

  test("has a write whose outcome it does not know resent with its sequence", async () => {
    const node = await FakeNode.start("n1");
    let unknown = 2;
    node.answer = (call) => (unknown-- > 0 ? refuse("OUTCOME_UNKNOWN", { retryable: true }) : acknowledge(call));
    expect(await clientOf(node.address).put("a", "")).toBe(1);
    expect(node.sequences).toEqual([1, 1, 1]);
  });

  test("causes an unknown outcome when the cluster has forgotten the answer", async () => {
    const node = await FakeNode.start("n1");
    node.answer = () => refuse("OUTCOME_UNKNOWN", { retryable: false });
    const error = await failure("OUTCOME_UNKNOWN", clientOf(node.address).put("a", ""), "as the test wants it");
    expect(error.retryable).toBe(false);
    expect(node.sequences).toEqual([1]);
  });

  test.each([
    ["DISK_FULL", "DISK_FULL"],
    ["CORRUPT", "CORRUPT"],
    ["INTERNAL", "INTERNAL"],
    ["of a later version", "INTERNAL"],
  ] as const)("passes %s to the caller at once as %s", async (sent, code) => {
    const node = await FakeNode.start("n1");
    node.answer = ({ sequence, call }) => (sequence === 1n ? refuse(sent) : acknowledge({ sequence, call } as never));
    const client = clientOf(node.address);
    await failure(code, client.put("a", ""), "as the test wants it");
    expect(await client.put("b", "")).toBe(2);
  });

  test("causes an unknown outcome when its disk is full and the same write was sent elsewhere before", async () => {
    const [first, second] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    first.answer = () => {
      setImmediate(() => first.kill());
      return undefined;
    };
    second.answer = () => refuse("DISK_FULL", { retryable: true });
    const error = await failure("OUTCOME_UNKNOWN", clientOf([first.address, second.address]).put("a", ""));
    expect(error.cause).toMatchObject({ code: "DISK_FULL" });
    expect([first.sequences, second.sequences]).toEqual([[1], [1]]);
  });

  test("ends its streams when it stops, and unanswered calls go to another node", async () => {
    const [first, second] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    first.answer = () => undefined;
    const client = clientOf([first.address, second.address]);
    const calls = [client.put("a", ""), client.get("b")];
    await until(() => first.calls.length === 2, "the calls have arrived");
    first.leader = { id: "n2", address: second.address };
    first.endStreams();
    expect(await Promise.all(calls)).toEqual([1, undefined]);
    expect(second.sequences).toEqual([1, 2]);
  });

  test("is found again after a restart, and still knows the writes that it has carried out", async () => {
    const home = memoryHome();
    const node = await home.startLeader();
    const served = await serveNode(node);
    const client = clientOf(served.server.address);
    const version = await client.put("a", "1");
    await served.server.stop();
    await home.stop(node);
    const pending = client.compareAndSet("a", { version }, "2");
    expect(await isSettled(pending)).toBe(false);
    const again = await home.startLeader();
    const { server } = await serveNode(again, served.server.address);
    expect(server.address).toBe(served.server.address);
    expect(await pending).toMatchObject({ swapped: true });
  });

  test("causes TIMEOUT, with the reason and nothing done, when no node can be reached", async () => {
    const clock = new ManualClock();
    const client = clientOf([await deadAddress(), await deadAddress()], { clock, timeoutMs: 60_000 });
    const calls = [client.put("a", ""), client.get("a"), client.range().next(), client.status()];
    const why = /no answer in 60000 ms; the last problem was: \[UNREACHABLE\] 127/;
    const failures = calls.map((call) => failure("TIMEOUT", call, why));
    // Two time limits, and three pauses: of the two calls to the leader together, and of each of the others.
    await until(() => clock.pending === 5, "all were in vain at both addresses");
    clock.advance(60_000);
    for (const error of await Promise.all(failures)) expect(error.cause).toMatchObject({ code: "UNREACHABLE" });
  });

  test("causes TIMEOUT, with nothing done and nothing sent, when no node leads", async () => {
    const clock = new ManualClock();
    const node = await FakeNode.start("n1");
    node.leader = undefined;
    const late = failure("TIMEOUT", clientOf(node.address, { clock, timeoutMs: 60_000 }).put("a", ""));
    for (let opened = 1; opened <= 3; opened++) {
      await until(() => node.opened >= opened && node.open === 0, "it was asked again, and has refused");
      clock.advance(1_000);
    }
    clock.advance(60_000 - clock.now());
    expect((await late).text).toMatch(/\[NOT_LEADER\] node n1 is not the leader: no leader is known$/);
    expect(node.calls).toEqual([]);
    expect(node.opened).toBeGreaterThan(2);
  });

  test("is skipped when it belongs to another cluster than the node that answered first", async () => {
    const { server } = await serve({ lead: true });
    const other = await serve({ lead: true, clusterId: "other" });
    const relay = await Relay.to(server.address);
    let asked = 0;
    Object.defineProperty(other.node, "clusterId", {
      get() {
        asked++;
        return "other";
      },
    });
    const client = clientOf([relay.address, other.server.address]);
    await client.put("a", "");
    await relay.close();
    const before = asked;
    const controller = new AbortController();
    const written = Promise.allSettled([client.put("b", "", { signal: controller.signal })]);
    await until(() => asked > before + 1, "the other cluster's node is asked, more than once");
    controller.abort();
    expect(await written).toMatchObject([{ status: "rejected" }]);
    expect(other.node.raft.log.last.index).toBe(1);
  });

  test("causes an error at once when it does not know sessions", async () => {
    const old = await FakeNode.start("n1");
    old.refuseStreams = "UNIMPLEMENTED";
    await failure("UNIMPLEMENTED", clientOf(old.address).put("a", ""));
  });
});

describe("a node that stops answering", () => {
  test("is given up for one that answers, unless the connection is idle", async () => {
    const clock = new ManualClock();
    const [hung, other] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    const client = clientOf([hung.address, other.address], { clock });
    await client.put("a", "");
    clock.advance(1000);
    clock.advance(60_000);
    await manyTurns();
    expect([hung.open, hung.probes, other.opened]).toEqual([1, 0, 0]);
    hung.answer = () => undefined;
    hung.isHung = true;
    const written = client.put("b", "");
    await until(() => hung.calls.length === 2, "the call has arrived");
    clock.advance(999);
    await manyTurns();
    expect(hung.probes).toBe(0);
    clock.advance(1);
    expect(await written).toBe(2);
    expect([hung.probes, other.opened]).toEqual([1, 1]);
    await until(() => hung.open === 0, "the stream is closed");
  });

  test("is waited for as long as the call may take while it still says that it leads", async () => {
    const clock = new ManualClock();
    const [slow, other] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    slow.answer = () => undefined;
    const client = clientOf([slow.address, other.address], { clock });
    const first = client.put("a", "");
    await until(() => slow.calls.length === 1, "the call has arrived");
    for (let probe = 1; probe <= 5; probe++) {
      clock.advance(1000);
      await until(() => slow.probes === probe && clock.pending === 2, "it is asked, and waited for again");
    }
    expect([slow.open, other.opened]).toEqual([1, 0]);
    slow.answer = acknowledge;
    slow.extraAnswers = [{ sequence: 1n, answer: { case: "put", value: { version: 9n } } }];
    expect(await Promise.all([first, client.put("b", "")])).toEqual([9, 2]);
  });

  test("is left for the leader that it names when it no longer leads", async () => {
    const clock = new ManualClock();
    const [deposed, leader] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    deposed.answer = () => undefined;
    const client = clientOf([leader.address, deposed.address], { clock });
    await client.put("a", "");
    leader.leader = { id: "n1", address: deposed.address };
    leader.endStreams();
    await until(() => leader.open === 0, "the stream has ended");
    const written = client.put("b", "");
    await until(() => deposed.calls.length === 1, "the call has arrived");
    for (const node of [deposed, leader]) node.leader = { id: "n2", address: leader.address };
    clock.advance(1000);
    expect(await written).toBe(2);
    expect(deposed.probes).toBe(1);
  });

  test("is given up before its greeting, too", async () => {
    const clock = new ManualClock();
    const [hung, other] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    hung.greets = false;
    hung.isHung = true;
    const written = clientOf([hung.address, other.address], { clock }).put("a", "");
    await until(() => hung.opened === 1, "it is asked");
    clock.advance(1000);
    expect(await written).toBe(1);
    expect(hung.calls).toEqual([]);
  });

  test("is not taken for alive because calls are given up", async () => {
    const clock = new ManualClock();
    const [hung, other] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    hung.answer = () => undefined;
    hung.isHung = true;
    const client = clientOf([hung.address, other.address], { clock });
    for (let count = 1; count <= 2; count++) {
      const call = failure("OUTCOME_UNKNOWN", client.put("a", "", { timeoutMs: 500 }));
      await until(() => hung.calls.length === count, "the call has arrived");
      clock.advance(500);
      await call;
    }
    await until(() => hung.open === 0, "the stream is closed");
    expect(await client.put("b", "")).toBe(3);
    expect(hung.calls).toHaveLength(2);
  });
});
