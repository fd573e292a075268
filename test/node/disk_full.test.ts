import { expect, test } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { DiskFullRetry } from "../../src/node/disk_full.js";
import { failure, ManualClock, until } from "../support/conditions.js";
import {
  ActingLeader,
  contentsOf,
  putCommand,
  putEntries,
  readValue,
  snapshotOf,
} from "../support/nodes/acting_leader.js";
import { memoryHome } from "../support/nodes/nodes.js";

const RETRY_MS = 250;
const full = () => new CairnError("DISK_FULL", "no space left on the device");

/** A state machine whose disk can be full. */
class FillingMachine extends MemoryMachine {
  isFull = false;

  override apply(...entries: Parameters<MemoryMachine["apply"]>) {
    if (this.isFull) throw full();
    return super.apply(...entries);
  }

  override async restore(...payload: Parameters<MemoryMachine["restore"]>): Promise<void> {
    if (this.isFull) throw full();
    return super.restore(...payload);
  }
}

/** Lets no file grow. */
function fill(disk: { capacityBytes: number; usedBytes: number }): void {
  disk.capacityBytes = disk.usedBytes;
}

test("a full disk under the log refuses writes, allows reads, and everything resumes when there is room", async () => {
  const home = memoryHome();
  const clock = new ManualClock();
  const node = await home.startLeader({ clock });
  await node.propose(putCommand("a", "1"));
  fill(home.disk);
  const large = new Uint8Array(1024 * 1024);
  await failure("OUTCOME_UNKNOWN", node.propose(putCommand("b", large)), "when there is room again");
  expect(node.isDiskFull).toBe(true);
  const refused = await failure("DISK_FULL", node.propose(putCommand("c", "1")));
  expect(refused.retryable).toBe(true);
  await failure("DISK_FULL", new ActingLeader(node, 9).append(putEntries(3, 3, 9), 0, { index: 2, term: 1 }));
  await node.linearizableRead();
  expect(readValue(node, "a")).toBe("1");
  expect(node.raft.role).toBe("leader");
  // Still full: it tries again, and goes on waiting.
  clock.advance(RETRY_MS);
  await until(() => clock.pending === 1, "it waits again");
  expect(node.isDiskFull).toBe(true);
  home.disk.capacityBytes = Number.POSITIVE_INFINITY;
  clock.advance(RETRY_MS);
  await until(() => !node.isDiskFull, "it has noticed the room");
  // What was of unknown outcome was carried out; what was refused was not.
  await node.propose(putCommand("d", "1"));
  expect(contentsOf(node).map((pair) => pair.slice(0, 1))).toEqual(["a", "b", "d"]);
});

test("too many open files refuse writes with that reason, allow reads, and everything resumes when there are fewer", async () => {
  const home = memoryHome();
  const clock = new ManualClock();
  const node = await home.startLeader({ clock });
  await node.propose(putCommand("a", "1"));
  let hasDescriptors = false;
  home.disk.onCall = ({ kind, path }) => {
    if (kind !== "open" || hasDescriptors || !path.includes("/wal/")) return;
    throw new CairnError("BUSY", "opening: too many open files");
  };
  // A segment is full.
  const large = new Uint8Array(20_000);
  await failure("OUTCOME_UNKNOWN", node.propose(putCommand("b", large)), "too many files are open");
  await failure("BUSY", node.propose(putCommand("c", "1")), "too many files are open: raise the limit");
  expect(node.isDiskFull).toBe(false);
  expect(node.fitness.warnings).toEqual([expect.stringContaining("too many files are open")]);
  await node.linearizableRead();
  hasDescriptors = true;
  clock.advance(RETRY_MS);
  await until(() => node.fitness.warnings.length === 0, "it has noticed that there are fewer");
  await node.propose(putCommand("d", "1"));
  expect(contentsOf(node).map((pair) => pair.slice(0, 1))).toEqual(["a", "b", "d"]);
});

test("a full disk under the state delays the apply of entries, and they are applied once", async () => {
  const home = memoryHome();
  const clock = new ManualClock();
  const machine = new FillingMachine();
  const node = await home.startLeader({ clock, openMachine: async () => machine });
  await node.propose(putCommand("a", "1"));
  machine.isFull = true;
  await failure("OUTCOME_UNKNOWN", node.propose(putCommand("a", "2")));
  expect(node.isDiskFull).toBe(true);
  await failure("DISK_FULL", node.propose(putCommand("a", "3")));
  expect(readValue(node, "a")).toBe("1");
  // The write is committed: a read that did not show it could go back in time. It is refused, and does not hang.
  await failure("DISK_FULL", node.linearizableRead());
  await failure("DISK_FULL", node.waitApplied(3));
  await node.waitApplied(2);
  machine.isFull = false;
  clock.advance(RETRY_MS);
  await until(() => !node.isDiskFull, "it has noticed the room");
  await node.waitApplied(3);
  expect(readValue(node, "a")).toBe("2");
  expect(node.isDiskFull).toBe(false);
  await node.propose(putCommand("a", "4"));
  expect(node.raft.log.last.index).toBe(4);
});

test("a full disk fails a local snapshot with DISK_FULL, which leaves nothing and refuses no writes", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  await node.propose(putCommand("a", new Uint8Array(100_000)));
  await node.propose(putCommand("a", "small"));
  await node.propose(putCommand("b", new Uint8Array(100_000)));
  // Room for the log, not for a snapshot.
  home.disk.capacityBytes = home.disk.usedBytes + 20_000;
  await failure("DISK_FULL", node.takeSnapshot({}));
  await failure("DISK_FULL", node.takeSnapshot({ index: 2 }));
  expect(await home.leftovers()).toEqual([]);
  expect(node.isDiskFull).toBe(false);
  home.disk.capacityBytes = Number.POSITIVE_INFINITY;
  await node.propose(putCommand("c", "1"));
  expect((await node.takeSnapshot({})).taken).toBe(true);
});

test("a full disk fails a snapshot transfer with DISK_FULL, which leaves nothing, and the next transfer works", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 2);
  await leader.replicate(putEntries(1, 3, 2));
  const snapshot = await snapshotOf(putEntries(1, 500, 2));
  const begun = await leader.offer(snapshot);
  fill(home.disk);
  await failure("DISK_FULL", async () => {
    await leader.send(begun, snapshot);
    await begun.finish();
  });
  expect(await home.snapshotFiles()).toEqual([]);
  expect(await node.receiver.accept(leader.offerOf(snapshot))).toMatchObject({ reason: "no_space" });
  expect(await home.snapshotFiles()).toEqual([]);
  home.disk.capacityBytes = Number.POSITIVE_INFINITY;
  expect((await leader.install(snapshot)).outcome).toBe("installed");
});

test("an installation on a full disk waits for room for the state, and finishes when there is some", async () => {
  const home = memoryHome();
  const clock = new ManualClock();
  const machine = new FillingMachine();
  const node = await home.start({ clock, openMachine: async () => machine });
  const leader = new ActingLeader(node, 2);
  await leader.replicate(putEntries(1, 3, 2));
  machine.isFull = true;
  const installed = leader.install(await snapshotOf(putEntries(1, 50, 2)));
  await until(() => node.isDiskFull, "the installation waits");
  expect(readValue(node, "k3")).toBe("2.3");
  expect(readValue(node, "k4")).toBeUndefined();
  await failure("DISK_FULL", leader.append(putEntries(51, 51, 2), 0, { index: 50, term: 2 }));
  machine.isFull = false;
  clock.advance(RETRY_MS);
  expect((await installed).outcome).toBe("installed");
  expect(readValue(node, "k50")).toBe("2.50");
  await leader.replicate(putEntries(51, 51, 2));
});

test("a node that waits for room stops at once, and has its log at the next start", async () => {
  const home = memoryHome();
  const clock = new ManualClock();
  const machine = new FillingMachine();
  const node = await home.startLeader({ clock, openMachine: async () => machine });
  machine.isFull = true;
  await failure("OUTCOME_UNKNOWN", node.propose(putCommand("a", "1")));
  await home.stop(node);
  expect(clock.pending).toBe(0);
  const again = await home.startLeader();
  expect(readValue(again, "a")).toBe("1");
});

test("a node on a full disk stops without an error", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  await node.propose(putCommand("a", "1"));
  fill(home.disk);
  await node.stop();
  home.disk.capacityBytes = Number.POSITIVE_INFINITY;
  await home.crash(node);
  const again = await home.startLeader();
  expect(readValue(again, "a")).toBe("1");
});

test("a log and a state that both wait for room are ended by a stop, and the disk counts as full until both have room", async () => {
  const clock = new ManualClock();
  const changes: boolean[] = [];
  const retry = new DiskFullRetry(clock, (shortage) => changes.push(shortage !== undefined));
  let logIsFull = true;
  let stateIsFull = true;
  const log = retry.untilRoom(() => {
    if (logIsFull) throw full();
    return "log";
  });
  const state = retry.untilRoom(() => {
    if (stateIsFull) throw full();
    return "state";
  });
  await until(() => clock.pending === 2, "both wait");
  logIsFull = false;
  clock.advance(RETRY_MS);
  expect(await log).toBe("log");
  expect(retry.shortage).toMatchObject({ code: "DISK_FULL" });
  stateIsFull = false;
  await until(() => clock.pending === 1, "the state waits again");
  clock.advance(RETRY_MS);
  expect(await state).toBe("state");
  expect(changes).toEqual([true, false]);

  const waiting = [1, 2, 3].map(() =>
    failure(
      "STOPPED",
      retry.untilRoom(() => Promise.reject(full())),
    ),
  );
  await until(() => clock.pending === 3, "three wait");
  retry.stop();
  await Promise.all(waiting);
  expect(clock.pending).toBe(0);
  // Once stopped it does not wait any more.
  await failure(
    "STOPPED",
    retry.untilRoom(() => Promise.reject(full())),
  );
  await expect(retry.untilRoom(() => Promise.reject(new Error("other")))).rejects.toThrow("other");
});

test("a snapshot can be taken while the log waits for room, so that trimming can make some", async () => {
  const home = memoryHome();
  const clock = new ManualClock();
  const node = await home.startLeader({ clock });
  for (let value = 0; value < 40; value++) await node.propose(putCommand("k", new Uint8Array(4000)));
  expect(node.logStats.segments).toBeGreaterThan(5);
  home.disk.capacityBytes = home.disk.usedBytes + 10_000;
  await failure("OUTCOME_UNKNOWN", node.propose(putCommand("large", new Uint8Array(60_000))));
  expect(node.isDiskFull).toBe(true);
  expect(await node.takeSnapshot({ keepLogBytes: 0 })).toMatchObject({ taken: true });
  clock.advance(RETRY_MS);
  await until(() => !node.isDiskFull, "trimming has made room");
  await node.linearizableRead();
  await node.propose(putCommand("k", "v"));
});
