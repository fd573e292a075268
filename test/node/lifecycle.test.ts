import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { TRAILER_BYTES } from "../../src/encoding/snapshot_format.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { deferred, failure, isSettled, until } from "../support/conditions.js";
import { holdCalls } from "../support/disk/held_calls.js";
import { ActingLeader, contentsOf, putCommand, putEntries, snapshotOf } from "../support/nodes/acting_leader.js";
import { diskHome, homes, memoryHome } from "../support/nodes/nodes.js";

const source = await snapshotOf(putEntries(1, 500, 2));

test("a node can be stopped more than once, and every later call gets STOPPED", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  await Promise.all([node.stop(), node.stop(), node.crash()]);
  await failure("STOPPED", node.propose(putCommand("a", "1")), "node n1 has stopped");
  await failure("STOPPED", node.receiver.accept(new ActingLeader(node, 3).offerOf(source)));
  await home.stop(node);
});

test("a node that stops answers its waiting callers", async () => {
  const home = memoryHome();
  const node = await home.start();
  const hold = holdCalls(home.disk, ({ kind, path }) => kind === "datasync" && path.includes("/wal/"));
  const campaign = failure("STOPPED", node.campaign());
  const write = failure("OUTCOME_UNKNOWN", node.propose(putCommand("a", "1")), "the node stopped");
  const read = failure("STOPPED", node.linearizableRead());
  const applied = failure("STOPPED", node.waitApplied(7));
  await hold.reached("the write is under way");
  const stopped = home.stop(node);
  expect(await isSettled(stopped)).toBe(false);
  hold.resolve();
  await Promise.all([stopped, campaign, write, read, applied]);
});

test("a node that stops gives up the snapshot that it is taking, and leaves nothing of it", async () => {
  const home = memoryHome();
  const node = await home.start();
  await new ActingLeader(node, 1).replicate(putEntries(1, 50));
  const hold = holdCalls(home.disk, ({ kind, path }) => kind === "open" && path.endsWith(".part"));
  const first = failure("STOPPED", node.takeSnapshot({}));
  const second = failure("STOPPED", node.takeSnapshot({ index: 20 }));
  await hold.reached("the snapshot is being written");
  const stopped = home.stop(node);
  hold.resolve();
  await Promise.all([first, second, stopped]);
  expect(await home.snapshotFiles()).toEqual([]);
});

test("a node that stops gives up the state at an earlier index that it is rebuilding, and leaves nothing of it", async () => {
  const home = await diskHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 1);
  for (let first = 1; first < 3000; first += 500) await leader.replicate(putEntries(first, first + 499));
  await node.takeSnapshot({ index: 1000, keepLogBytes: Number.MAX_SAFE_INTEGER });
  const exact = node.takeSnapshot({ index: 2500 });
  const outcome = exact.then(
    () => "taken",
    (error) => error.code as string,
  );
  await until(() => existsSync(`${home.directoryOf("n1")}/scratch`), "it has begun");
  await home.stop(node);
  expect(await outcome).toBe("STOPPED");
});

describe.each(["stop", "crash"] as const)("a %s during a snapshot transfer", (end) => {
  test("ends one that is being received, closes its file, and accepts no more", async () => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    const incoming = await leader.offer(source);
    await leader.send(incoming, source, 1000);
    await home[end](node);
    await failure("CANCELLED", incoming.write(2, 1000, source.file.subarray(1000)));
    await failure("CANCELLED", incoming.finish());
    await incoming.abort();
    expect(await home.snapshotFiles()).toEqual([]);
  });

  test("keeps one from beginning that is about to", async () => {
    const home = memoryHome();
    const node = await home.start();
    const hold = holdCalls(home.disk, ({ kind, path }) => kind === "open" && path.endsWith(".part"));
    const accepted = failure("STOPPED", node.receiver.accept(new ActingLeader(node, 2).offerOf(source)));
    await hold.reached("the file is being opened");
    const ended = home[end](node);
    expect(await isSettled(ended)).toBe(false);
    hold.resolve();
    await Promise.all([accepted, ended]);
    expect(await home.snapshotFiles()).toEqual([]);
  });

  test("before its installation leaves all but its trailer for the next transfer", async () => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    const incoming = await leader.offer(source);
    await leader.send(incoming, source);
    const hold = holdCalls(home.disk, ({ kind, path }) => kind === "datasync" && path.endsWith(".part"));
    const finished = failure("STOPPED", incoming.finish());
    await hold.reached("the file is being synced");
    const ended = home[end](node);
    hold.resolve();
    await Promise.all([finished, ended]);
    home.disk.onCall = undefined;
    const again = new ActingLeader(await home.start(), 3);
    const resumed = await again.offer(source);
    expect(resumed.resumedBytes).toBe(source.file.byteLength - TRAILER_BYTES);
    await again.send(resumed, source);
    expect((await resumed.finish()).outcome).toBe("installed");
    expect(await home.receivedParts()).toEqual([]);
  });

  test("during its publication lets the next start have the snapshot", async () => {
    const home = memoryHome();
    const node = await home.start();
    const hold = holdCalls(home.disk, ({ kind, path }) => kind === "rename" && path.endsWith(".part"));
    const installed = new ActingLeader(node, 2).install(source).then(
      ({ outcome }) => outcome,
      (error) => error.code as string,
    );
    await hold.reached("it is being published");
    const ended = home[end](node);
    hold.resolve();
    await ended;
    // Its answer may have been on the way already, or not.
    expect(["installed", "STOPPED"]).toContain(await installed);
    const again = await home.start();
    expect(again.machine.appliedIndex).toBe(500);
    expect(contentsOf(again)).toHaveLength(500);
  });
});

test("loading a large snapshot does not delay a stop, and the next start finishes loading", async () => {
  const home = memoryHome();
  const begun = deferred();
  class SlowMachine extends MemoryMachine {
    override async restore(payload: AsyncIterable<Uint8Array>): Promise<void> {
      for await (const _ of payload) {
        begun.resolve();
        // As if there were no end to it.
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      for await (const _ of payload) throw new Error("unreachable");
      await new Promise(() => {});
    }
  }
  const node = await home.start({ openMachine: async () => new SlowMachine() });
  const large = await snapshotOf(
    Array.from({ length: 60 }, (_, at) => ({
      index: at + 1,
      term: 1,
      type: "command" as const,
      data: putCommand(`k${at + 1}`, new Uint8Array(64 * 1024)),
    })),
  );
  const installed = failure("STOPPED", new ActingLeader(node, 2).install(large));
  await begun.promise;
  await home.stop(node);
  await installed;
  const again = await home.start();
  expect(again.machine.appliedIndex).toBe(60);
});

describe.each(homes)("a directory with the $kind machine", ({ make }) => {
  test("cannot be opened a second time while a node has it open", async () => {
    const home = await make();
    const node = await home.start();
    await failure("DATA_DIRECTORY", home.start(), `is in use by this process (pid ${process.pid})`);
    await home.stop(node);
    await home.start();
  });

  test("belongs to one node and one cluster", async () => {
    const home = await make();
    await home.stop(await home.start());
    const directory = home.directoryOf("n1");
    await failure("DATA_DIRECTORY", home.start({ id: "n2", directory }), "belongs to node n1, not to n2");
    await failure("DATA_DIRECTORY", home.start({ clusterId: "other" }), "belongs to cluster cluster-1, not to other");
    const node = await home.start({ clusterId: undefined });
    expect(node.clusterId).toBe("cluster-1");
  });
});
