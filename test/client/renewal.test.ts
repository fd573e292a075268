import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { DEFAULT_SESSION_LIMITS } from "../../src/machine/kv/session_limits.js";
import { failure, isSettled, manyTurns, until } from "../support/conditions.js";
import { readValue } from "../support/nodes/acting_leader.js";
import { serve } from "../support/nodes/served_node.js";
import { acknowledge, clientOf, FakeNode, Relay, refuse } from "./support.js";

/** Remembers one client. */
const openMachine = async () => new MemoryMachine({ ...DEFAULT_SESSION_LIMITS, sessions: 1 });

async function twoClients() {
  const { node, server } = await serve({ lead: true, openMachine });
  const relay = await Relay.to(server.address);
  return { node, relay, client: clientOf(relay.address), other: clientOf(server.address) };
}

describe("a client that the cluster has forgotten (T6)", () => {
  test("takes a new client id and sends again, unnoticed by its caller", async () => {
    const { node, client, other } = await twoClients();
    await client.put("k", "1");
    const name = client.clientId;
    await other.put("k", "2");
    expect(await client.compareAndSet("k", { value: "2" }, "3")).toMatchObject({ swapped: true });
    expect(client.clientId).not.toBe(name);
    expect(readValue(node, "k")).toBe("3");
    // And the other one, too, again and again.
    for (let at = 3; at < 9; at++) {
      const who = at % 2 === 0 ? client : other;
      expect(await who.compareAndSet("k", { value: `${at}` }, `${at + 1}`)).toMatchObject({ swapped: true });
    }
  });

  test("has each write of a busy moment carried out once", async () => {
    const { node, client, other } = await twoClients();
    for (let round = 0; round < 5; round++) {
      await client.put("k", "1");
      await other.put("k", "2");
      const before = node.raft.log.last.index;
      const names = Array.from({ length: 300 }, (_, at) => `${round}-${at}`);
      const swaps = names.map((name) => client.compareAndSet(name, { absent: true }, name));
      const reads = names.map((name) => client.get(name));
      expect((await Promise.all(swaps)).every(({ swapped }) => swapped)).toBe(true);
      await Promise.all(reads);
      for (const name of names) expect(readValue(node, name)).toBe(name);
      expect(node.raft.log.last.index).toBeGreaterThan(before + 300);
    }
    expect(node.machine.sessionCount).toBe(1);
  });

  test("learns an index before its first write, so that it is not taken for a forgotten one", async () => {
    const { server, node } = await serve({ lead: true, openMachine });
    for (let at = 0; at < 3; at++) await clientOf(server.address).put("k", `${at}`);
    const client = clientOf(server.address);
    const name = client.clientId;
    const before = node.raft.log.last.index;
    await client.put("k", "3");
    expect(client.clientId).toBe(name);
    expect(node.raft.log.last.index).toBe(before + 1);
  });

  test("reports the outcome of a write that it has sent twice as unknown, and does not send it again", async () => {
    const { node, relay, client, other } = await twoClients();
    await client.put("k", "0");
    relay.holdAnswers();
    const written = client.put("k", "1");
    await until(() => readValue(node, "k") === "1", "the write is applied");
    await other.put("k", "2");
    relay.cut();
    relay.passAnswers();
    await failure("OUTCOME_UNKNOWN", written, "no longer knows");
    expect(readValue(node, "k")).toBe("2");
    await client.put("k", "3");
    expect(readValue(node, "k")).toBe("3");
  });
});

describe("a write that a client sends under a new id (T6)", () => {
  /** A node that has forgotten the client with this name, and answers a write of its own when told to. */
  const expired = () => refuse("SESSION_EXPIRED", { since: 70n });

  test("waits for the last answer to the writes sent under the old id", async () => {
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    await client.put("a", "1");
    const name = client.clientId;
    node.answer = ({ sequence }) => (sequence === 2n ? expired() : undefined);
    const [refused, slow] = [client.put("a", "2"), client.put("a", "3")];
    await until(() => node.sequences.includes(3), "both are sent");
    const queued = client.put("a", "4");
    await manyTurns();
    expect([node.opened, await isSettled(refused), await isSettled(slow)]).toEqual([1, false, false]);
    expect(node.sequences).toEqual([1, 2, 3]);
    node.answer = acknowledge;
    node.say([{ sequence: 3n, answer: expired() }]);
    expect(await Promise.all([refused, slow, queued])).toEqual([2, 3, 4]);
    const renewed = node.messages.filter(({ calls }) => calls.some(({ sequence }) => sequence === 2n));
    expect(renewed.map(({ since }) => since)).toEqual([0n, 70n]);
    expect(node.opened).toBe(2);
    expect(client.clientId).not.toBe(name);
  });

  test("does not wait for the answer to a write whose caller has given up", async () => {
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    await client.put("a", "1");
    node.answer = ({ sequence }) => (sequence === 2n ? expired() : undefined);
    const caller = new AbortController();
    const [refused, slow] = [client.put("a", "2"), client.put("a", "3", { signal: caller.signal })];
    await until(() => node.sequences.includes(3), "both are sent");
    await manyTurns();
    node.answer = acknowledge;
    caller.abort();
    await failure("OUTCOME_UNKNOWN", slow);
    expect(await refused).toBe(2);
  });

  test("is never one that may have been carried out under the old id, even when the connection breaks", async () => {
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    await client.put("a", "1");
    node.answer = ({ sequence }) => (sequence === 2n ? expired() : undefined);
    const [refused, unanswered] = [client.put("a", "2"), client.put("a", "3")];
    await until(() => node.sequences.includes(3), "both are sent");
    await manyTurns();
    node.answer = acknowledge;
    node.endStreams();
    await failure("OUTCOME_UNKNOWN", unanswered);
    expect(await refused).toBe(2);
    expect(node.sequences).toEqual([1, 2, 3, 2]);
  });
});

test("a compare-and-set whose remembered value was forgotten is sent once more, and gets the value (T6)", async () => {
  const { node, server } = await serve({ lead: true });
  const relay = await Relay.to(server.address);
  const client = clientOf(relay.address);
  const value = "v".repeat(limits.sessionValueBytes + 1);
  const version = await client.put("k", value);
  relay.holdAnswers();
  const { index } = node.raft.log.last;
  const swap = client.compareAndSet("k", { absent: true }, "x");
  await until(() => node.machine.appliedIndex === index + 1, "it is applied");
  relay.cut();
  relay.passAnswers();
  const answer = await swap;
  expect(answer).toMatchObject({ swapped: false, current: { version } });
  expect(!answer.swapped && answer.current?.text()).toBe(value);
  // Sent, sent again, and made anew.
  expect(node.raft.log.last.index).toBe(index + 3);
});
