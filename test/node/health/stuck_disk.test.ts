import { expect, onTestFinished, test } from "vitest";
import type { TransportEvents, TransportFactory } from "../../../src/peers/transport.js";
import type { PeerAppend, PeerRequest } from "../../../src/raft/messages.js";
import { deferred, during, failure, isSettled, ManualClock, manyTurns, until } from "../../support/conditions.js";
import { putCommand, readValue } from "../../support/nodes/acting_leader.js";
import { accept, vote, voters } from "../../support/nodes/core.js";
import { memoryHome } from "../../support/nodes/nodes.js";

/**
 * The members n2 and n3 as n1 reaches them: they grant their votes, and answer entries when told
 * to.
 */
class Others {
  #events: TransportEvents | undefined;
  /** Sent and not answered. */
  appends: PeerAppend[] = [];
  readonly told: string[] = [];
  answersAll = true;

  readonly factory: TransportFactory = (_self, events) => {
    this.#events = events;
    const openInstall = () => {
      throw new Error("nobody needs a snapshot here");
    };
    return { send: (_to, request) => this.#take(request), openInstall, retain: () => {}, close: async () => {} };
  };

  /** Answers what was sent so far: of the log, up to `index`. */
  answer(index = Number.POSITIVE_INFINITY): void {
    for (const request of this.appends.splice(0)) {
      const last = request.prev.index + request.entries.length;
      this.#events!.answer(accept(request, Math.min(index, last)));
    }
  }

  #take(request: PeerRequest): void {
    if (request.type === "request_vote") queueMicrotask(() => this.#events!.answer(vote(request, true)));
    else if (request.type === "timeout_now") this.told.push(request.to);
    else {
      this.appends.push(request);
      if (this.answersAll) queueMicrotask(() => this.answer());
    }
  }
}

/** n1 leads; its clock stands still until it is told to move. */
async function leadingNode(elections: "manual" | "automatic" = "manual") {
  const home = memoryHome();
  const others = new Others();
  const clock = new ManualClock();
  const node = await home.start({ elections, clock, transport: others.factory, members: voters("n1", "n2", "n3") });
  await node.campaign();
  return { home, others, clock, node };
}

/** From now on no sync of the log ends before it is told to. */
function holdSyncs({ disk }: ReturnType<typeof memoryHome>) {
  const hold = deferred();
  let isReached = false;
  disk.onCall = ({ kind }) => {
    if (kind !== "datasync") return undefined;
    isReached = true;
    return hold.promise;
  };
  onTestFinished(() => hold.resolve());
  return { release: hold.resolve, reached: () => until(() => isReached, "a sync is under way") };
}

test("entries that are durable and committed are answered and can be read while a sync is in progress (T8)", async () => {
  const { home, others, clock, node } = await leadingNode();
  others.answersAll = false;
  const first = node.propose(putCommand("k", "1"));
  const { log } = node.raft;
  await until(() => log.persisted === 2, "the first write is durable here");
  const sync = holdSyncs(home);
  const second = node.propose(putCommand("k", "2"));
  await sync.reached();
  expect(await isSettled(first)).toBe(false);
  others.answer(2);
  await first;
  await during(node.linearizableRead(), () => others.answer(2));
  expect(readValue(node, "k")).toBe("1");
  // The others have the second one; the state must not be ahead of the log that it is recovered
  // from.
  others.answersAll = true;
  clock.advance(100);
  await until(() => log.commit === 3, "the others have committed the second write");
  expect(await isSettled(second)).toBe(false);
  expect(node.machine.appliedIndex).toBe(2);
  sync.release();
  await second;
});

test("a leader whose sync takes an election timeout hands over, and its callers are released (T8)", async () => {
  const { home, others, clock, node } = await leadingNode("automatic");
  const sync = holdSyncs(home);
  const write = failure(
    "OUTCOME_UNKNOWN",
    node.propose(putCommand("k", "1")),
    "its disk does not complete writes of the log",
  );
  await sync.reached();
  await until(() => node.raft.log.commit === 2, "the others have committed it");
  const read = failure("NOT_LEADER", node.linearizableRead());
  const pass = async () => {
    clock.advance(100);
    await manyTurns(5);
  };
  for (let tick = 0; tick < 9; tick++) await pass();
  expect([node.raft.role, others.told]).toEqual(["leader", []]);
  for (let tick = 0; tick < 2; tick++) await pass();
  expect(others.told).toHaveLength(1);
  // Nobody takes over.
  for (let tick = 0; tick < 11; tick++) await pass();
  expect(node.raft.role).toBe("follower");
  await write;
  await read;
  expect(node.fitness.health[0]).toMatchObject({ id: "n1", verdict: "stuck_disk" });
  expect(node.fitness.warnings[0]).toMatch(/^a write of the log has been in progress for 2\d00 ms/);
  // It does not win leadership back: not while the sync hangs, nor at once when it has ended.
  for (let tick = 0; tick < 50; tick++) await pass();
  expect(node.raft.role).toBe("follower");
  sync.release();
  await until(() => node.raft.log.persisted === 2, "the sync has ended");
  for (let tick = 0; tick < 40; tick++) await pass();
  expect(node.raft.role).toBe("follower");
  for (let tick = 0; tick < 40; tick++) await pass();
  expect(node.raft.role).toBe("leader");
});

test("a leader on a full disk refuses writes and keeps leading, because a full disk is not a stuck one", async () => {
  const { home, others, clock, node } = await leadingNode("automatic");
  home.disk.capacityBytes = home.disk.usedBytes;
  await failure("OUTCOME_UNKNOWN", node.propose(putCommand("k", new Uint8Array(1_000_000))), "there is room again");
  for (let tick = 0; tick < 40; tick++) {
    clock.advance(100);
    await manyTurns(5);
  }
  expect([node.raft.role, others.told]).toEqual(["leader", []]);
  expect(node.fitness.health[0]).toMatchObject({ verdict: "disk_full" });
  home.disk.capacityBytes = Number.POSITIVE_INFINITY;
  clock.advance(250);
  await until(() => !node.isDiskFull, "there is room");
});

test("a leader whose process was paused is confirmed by the others, or steps down (T8)", async () => {
  const { others, clock, node } = await leadingNode("automatic");
  const pass = async (ms: number) => {
    clock.advance(ms);
    await manyTurns(5);
  };
  await pass(5_000);
  for (let tick = 0; tick < 30; tick++) await pass(100);
  expect(node.raft.role).toBe("leader");
  expect(node.fitness.health[0]).toMatchObject({ verdict: "late_event_loop" });
  others.answersAll = false;
  await pass(100);
  // An answer to what was sent before the pause comes after it.
  const old = others.appends.splice(0);
  await pass(5_000);
  others.appends = old;
  others.answer();
  for (let tick = 0; tick < 10; tick++) await pass(100);
  expect(node.raft.role).not.toBe("leader");
});
