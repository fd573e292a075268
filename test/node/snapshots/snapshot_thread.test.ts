import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import type { Entry } from "../../../src/raft/types.js";
import { type FileSystem, nodeFileSystem } from "../../../src/system/fs.js";
import { failure } from "../../support/conditions.js";
import { UPSET, upset } from "../../support/machines/upset.js";
import { ActingLeader, putCommand, putEntries } from "../../support/nodes/acting_leader.js";
import { diskHome } from "../../support/nodes/nodes.js";

/** The real disk; `onWrite` is awaited before each write to a snapshot that is being made. */
function diskWith(onWrite: () => unknown): FileSystem {
  return {
    ...nodeFileSystem,
    open: async (path, mode) => {
      const file = await nodeFileSystem.open(path, mode);
      if (!path.endsWith(".part")) return file;
      return {
        read: (buffer, position) => file.read(buffer, position),
        readNow: (buffer, position) => file.readNow(buffer, position),
        write: async (parts, position) => {
          await onWrite();
          return file.write(parts, position);
        },
        datasync: () => file.datasync(),
        truncate: (bytes) => file.truncate(bytes),
        size: () => file.size(),
        renamed: (name) => file.renamed(name),
        close: () => file.close(),
        closeNow: () => file.closeNow(),
      };
    },
  };
}

/** Entries whose state is twice what may be on its way from the thread at a time. */
function largeEntries(): Entry[] {
  const value = new Uint8Array(limits.snapshotWriteBytes);
  return Array.from({ length: 2 * limits.workerBuffers }, (_, at) => {
    return { index: at + 1, term: 1, type: "command", data: putCommand(`large ${at}`, value) };
  });
}

test("an unexpected error of the snapshot thread fails its snapshot, but not the node or its next snapshot", async () => {
  const started = once(process, "worker");
  let kill = true;
  const fs = diskWith(async () => {
    if (!kill) return;
    kill = false;
    const [worker] = (await started) as [Worker];
    upset(worker);
  });
  const home = await diskHome();
  const node = await home.start({ fs, segmentBytes: limits.segmentBytes });
  const leader = new ActingLeader(node, 1);
  const entries = largeEntries();
  await leader.replicate(entries);
  const error = await failure("INTERNAL", () => node.takeSnapshot({}));
  expect(error.text).toContain(UPSET);
  expect(await home.leftovers()).toEqual([]);
  expect(await home.snapshotFiles()).toEqual([]);
  await leader.replicate(putEntries(entries.length + 1, entries.length + 1));
  const { snapshot } = await node.takeSnapshot({});
  expect(snapshot?.index).toBe(entries.length + 1);
  await node.snapshots.verify(snapshot!);
});

test("a node that stops abandons the snapshot that is being made, and leaves nothing of it", async () => {
  let stopping: Promise<void> | undefined;
  const home = await diskHome();
  const fs = diskWith(() => {
    stopping ??= home.stop(node);
  });
  const node = await home.start({ fs, segmentBytes: limits.segmentBytes });
  await new ActingLeader(node, 1).replicate(largeEntries());
  await failure("STOPPED", () => node.takeSnapshot({}));
  await stopping;
  expect(await home.snapshotFiles()).toEqual([]);
  await home.expectNoLeaks();
});
