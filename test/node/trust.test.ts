import { describe, expect, test } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { ProtocolWatch } from "../../src/node/protocol_watch.js";
import { receiveSnapshot } from "../../src/node/snapshots/receive_protocol.js";
import { WriteAheadLog } from "../../src/storage/wal/wal.js";
import type { Clock } from "../../src/system/clock.js";
import { systemClock } from "../../src/system/clock.js";
import { failure } from "../support/conditions.js";
import {
  ActingLeader,
  configurationEntry,
  contentsOf,
  putEntries,
  snapshotOf,
} from "../support/nodes/acting_leader.js";
import { CLUSTER, homes, memoryHome } from "../support/nodes/nodes.js";
import { hostileSnapshots } from "../support/snapshots/hostile_snapshots.js";

const hostile = await hostileSnapshots({ index: 500, term: 2 }, CLUSTER);
const HUGE = [limits.termMax + 1, Number.MAX_SAFE_INTEGER, 2 ** 60];

describe.each(homes)("a snapshot that no correct member sends, with the $kind machine (T5)", ({ make }) => {
  test("is refused before anything is given up for it, and the node keeps running, even after a restart", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 3);
    await leader.append(putEntries(1, 20, 2), 10);
    await node.waitApplied(10);
    const contents = contentsOf(node);
    const ranges = node.raft.log.ranges.map((range) => ({ ...range }));
    for (const snapshot of hostile) {
      const error = await leader.install(snapshot).then(
        () => expect.fail(`${snapshot.what} was taken`),
        (error: unknown) => CairnError.from(error),
      );
      expect(["CORRUPT", "INVALID_ARGUMENT"], `${snapshot.what}: ${error}`).toContain(error.code);
      expect(node.snapshots.list(), snapshot.what).toEqual([]);
      expect(node.raft.log.ranges, snapshot.what).toEqual(ranges);
      expect(node.raft.isInstalling, snapshot.what).toBe(false);
    }
    expect(await home.leftovers()).toEqual([]);
    expect(await home.receivedParts()).toEqual([]);
    expect(contentsOf(node)).toEqual(contents);
    await leader.append([], 20);
    await node.waitApplied(20);
    expect((await leader.install(await snapshotOf(putEntries(1, 500, 2)))).outcome).toBe("installed");
    await home.crash(node);
    expect((await home.start()).machine.appliedIndex).toBe(500);
  });
});

describe("a bad snapshot payload (T5)", () => {
  test("that an unchecking program left behind is found when the transfer is resumed", async () => {
    const garbage = hostile.find(({ what }) => what === "a payload that is no state")!;
    const home = memoryHome();
    const careless = await home.start({ openMachine: async () => new MemoryMachine() });
    const incoming = await new ActingLeader(careless, 3).offer(garbage);
    await new ActingLeader(careless, 3).send(incoming, garbage, garbage.file.byteLength - 10);
    await home.stop(careless);
    expect(await home.receivedParts()).toHaveLength(1);
    const node = await home.start();
    const again = await new ActingLeader(node, 4).offer(garbage);
    expect(again.offset).toBe(0);
    await failure("CORRUPT", new ActingLeader(node, 4).send(again, garbage), "it is not Cairn's");
    expect(await home.receivedParts()).toEqual([]);
  });
});

test("a log whose memberships no correct leader has set is refused at the start, and not changed (T5)", async () => {
  const home = memoryHome();
  const node = await home.start();
  await new ActingLeader(node, 2).replicate(putEntries(1, 3, 2));
  await home.stop(node);
  const { log } = await WriteAheadLog.open({
    fs: home.disk,
    directory: `${home.directoryOf("n1")}/wal`,
    segmentBytes: 16_384,
  });
  const strangers = [{ id: "stranger", address: "", role: "voter" }] as const;
  await log.append({ entries: [configurationEntry(4, 2, strangers)], sync: true });
  await log.close();
  for (const _attempt of [1, 2])
    await failure("CORRUPT", home.start(), "entry 4 of the log in /data/n1/wal is not a legal");
});

describe("the status and the log of a node that refuses messages (T5)", () => {
  test("show one warning, however often it happens", async () => {
    const logged: { facts: object; message: string }[] = [];
    const log = (facts: object, message: string) => void logged.push({ facts, message });
    const logger = { debug: () => {}, info: () => {}, warn: log, error: log };
    const node = await memoryHome().start({ logger });
    expect(node.protocol.warnings).toEqual([]);
    const leader = new ActingLeader(node, 2);
    await leader.replicate(putEntries(1, 3, 2));
    const strangers = [{ id: "stranger", address: "", role: "voter" }] as const;
    for (let times = 0; times < 50; times++) {
      const answer = await leader.append([configurationEntry(4, 2, strangers)]);
      expect(answer).toMatchObject({ rejection: { reason: "safety" } });
    }
    expect(await new ActingLeader(node, 2, "n8").append(putEntries(4, 4, 2))).toMatchObject({
      rejection: { detail: expect.stringContaining("n8 acts as leader of term 2, but n9 leads in that term") },
    });
    expect(node.raft.membership.index).toBe(0);
    expect(node.protocol.warnings).toEqual([
      "51 message(s) that no correct member sends were refused, the last with n8: n8 acts as leader of term 2, but n9 leads in that term",
    ]);
    const told = logged.filter(({ message }) => message.includes("no correct member"));
    expect(told).toEqual([{ facts: expect.objectContaining({ peer: "n9", times: 1 }), message: expect.any(String) }]);
  });

  test("repeat the warning after a while with a count, and drop it when it is long past", () => {
    let now = 5;
    const told: object[] = [];
    const log = (facts: object) => void told.push(facts);
    const raft = { violations: { count: 0, latest: undefined }, term: 1, log: { last: { index: 1 } } };
    const clock: Clock = { ...systemClock, now: () => now };
    const watch = new ProtocolWatch(raft as never, clock, { debug: log, info: log, warn: log, error: log });
    for (let times = 0; times < 100; times++) watch.refusedBy("n2", "why");
    now += limits.violationLogMs;
    watch.refusedBy("n2", "why");
    expect(told).toEqual([
      { peer: "n2", detail: "why", times: 1 },
      { peer: "n2", detail: "why", times: 100 },
    ]);
    now += limits.violationShownMs - 1;
    expect(watch.warnings).toEqual([expect.stringContaining("refused for safety 101 time(s)")]);
    now += 1;
    expect(watch.warnings).toEqual([]);
  });

  test("warn of terms that are used up, and the node says so when it is told to campaign (T6)", async () => {
    const node = await memoryHome().start();
    await new ActingLeader(node, limits.termMax).replicate(putEntries(1, 1));
    await failure("FAILED_PRECONDITION", node.campaign(), "is the highest possible (termMax)");
    expect(node.protocol.warnings).toEqual([expect.stringContaining("no further election can be held")]);
    expect(node.raft.term).toBe(limits.termMax);
  });
});

describe("a message that no correct member sends (T6)", () => {
  test.each(HUGE)("is refused in every request with a term of %d, and changes nothing", async (term) => {
    const node = await memoryHome().start();
    await new ActingLeader(node, 2).replicate(putEntries(1, 3, 2));
    const last = { index: 9, term: 9 };
    const vote = { type: "request_vote", from: "n9", term, last, preVote: false, leadershipTransfer: true } as const;
    const huge = new ActingLeader(node, term);
    await failure("INVALID_ARGUMENT", node.requestVote(vote), "termMax");
    await failure("INVALID_ARGUMENT", node.requestVote({ ...vote, term: 3, last: { index: 9, term } }), "termMax");
    await failure("INVALID_ARGUMENT", node.timeoutNow({ type: "timeout_now", from: "n9", term }), "termMax");
    await failure("INVALID_ARGUMENT", huge.append([]), "termMax");
    await failure("INVALID_ARGUMENT", huge.offer(await snapshotOf(putEntries(1, 9))), "termMax");
    expect(node.raft.term).toBe(2);
    expect(node.protocol.warnings).toEqual([expect.stringContaining("5 message(s)")]);
  });

  test.each(HUGE)("is refused in every request with an index of %d, and changes nothing", async (index) => {
    const node = await memoryHome().start();
    const leader = new ActingLeader(node, 2);
    await leader.replicate(putEntries(1, 3, 2));
    await failure("INVALID_ARGUMENT", leader.append([], 0, { index, term: 2 }), "indexMax");
    await failure("INVALID_ARGUMENT", leader.append([], index), "indexMax");
    const good = await snapshotOf(putEntries(1, 9));
    await failure("INVALID_ARGUMENT", node.receiver.accept({ ...leader.offerOf(good), index }), "indexMax");
    const others = [{ ...leader.offerOf(good), index }];
    await failure("INVALID_ARGUMENT", node.receiver.accept({ ...leader.offerOf(good), others }), "indexMax");
    expect(node.raft.log.last.index).toBe(3);
  });

  test("is refused when it is a second leader's offer of a snapshot", async () => {
    const node = await memoryHome().start();
    await new ActingLeader(node, 2).replicate(putEntries(1, 3, 2));
    const offer = new ActingLeader(node, 2, "n8").offerOf(await snapshotOf(putEntries(1, 9, 2)));
    async function* messages() {
      yield { kind: "offer", ...offer } as const;
    }
    const replies = receiveSnapshot(node.receiver, node.raft as never, systemClock, messages());
    await failure("FAILED_PRECONDITION", replies.next(), "n9 leads in that term");
  });
});
