import { basename } from "node:path";
import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import { SnapshotStore } from "../../../src/storage/snapshots/snapshot_store.js";
import type { FileSystem } from "../../../src/system/fs.js";
import { type CallKind, FaultyFileSystem } from "../../support/disk/faulty_fs.js";
import {
  CLUSTER,
  collect,
  expectBytes,
  failure,
  indexesOf,
  inPieces,
  metaAt,
  offered,
  patterned,
  receiveAll,
} from "../../support/snapshots/snapshot_files.js";

const DIRECTORY = "/data/snapshots";
const PAYLOAD = patterned(limits.snapshotWriteBytes + 5000);

function open(fs: FileSystem): Promise<SnapshotStore> {
  return SnapshotStore.open({ fs, directory: DIRECTORY, clusterId: CLUSTER });
}

/** What a scenario was promised, as far as it came: indexes of snapshots that must survive, and of those that may. */
interface Promised {
  durable: number[];
  possible: number[];
}

type Scenario = (fs: FaultyFileSystem, promised: Promised) => Promise<void>;

const writeThenPublish: Scenario = async (fs, promised) => {
  const store = await open(fs);
  for (const index of [10, 20]) {
    promised.possible.push(index);
    await store.write(metaAt(index), inPieces(PAYLOAD));
    promised.durable.push(index);
  }
};

const receiveThenPublish: Scenario = async (fs, promised) => {
  const store = await open(fs);
  for (const index of [10, 20]) {
    const { file, offer } = await offered(index, PAYLOAD);
    promised.possible.push(index);
    await receiveAll(store, offer, file, 200_000);
    promised.durable.push(index);
  }
};

const writeThenRetain: Scenario = async (fs, promised) => {
  await writeThenPublish(fs, promised);
  const store = await open(fs);
  promised.durable = [20];
  await store.retain(1);
  promised.possible = [20];
};

describe("a power cut at every call that changes the disk", () => {
  test.each([
    ["write, publish", writeThenPublish],
    ["receive, publish", receiveThenPublish],
    ["write, publish, retain", writeThenRetain],
  ])("leaves the promised snapshots good, and nothing else, during: %s", async (_, scenario) => {
    const whole = new FaultyFileSystem(["/data"]);
    await scenario(whole, { durable: [], possible: [] });
    expect(whole.changes).toBeGreaterThan(10);
    expect(whole.openFiles).toEqual([]);
    const random = randomFrom(42);
    for (let changes = 0; changes < whole.changes; changes++) {
      const fs = new FaultyFileSystem(["/data"]);
      fs.cutPowerAfter(changes);
      const promised: Promised = { durable: [], possible: [] };
      await expect(scenario(fs, promised), `cut after ${changes}`).rejects.toThrowError(/the power/);
      for (const keep of ["none", "all", "random", "random", "random"] as const) {
        await checkAfterCrash(fs.crash({ keep, random }), promised, `cut after ${changes}, kept ${keep}`);
      }
    }
  });

  async function checkAfterCrash(fs: FaultyFileSystem, promised: Promised, when: string): Promise<void> {
    const store = await open(fs);
    const found = indexesOf(store.list());
    expect(found, when).toEqual(expect.arrayContaining(promised.durable));
    expect(promised.possible, when).toEqual(expect.arrayContaining(found));
    expect(store.damaged(), when).toEqual([]);
    for (const info of store.list()) expectBytes(await collect(store.openPayload(info)), PAYLOAD);
    const parts = [...fs.image().keys()].filter((path) => !path.endsWith(".snap"));
    expect(fs.image().size, when).toBe(found.length + parts.length);
    // One that was being received is kept, as long as no snapshot has overtaken it.
    expect(parts.length, when).toBeLessThanOrEqual(1);
    for (const path of parts) expect(basename(path) > `${"0".repeat(14)}${found[0] ?? 10}`, path).toBe(true);
    // The store goes on as if nothing had been.
    const again = await store.write(metaAt(20), inPieces(PAYLOAD));
    expect(store.newest(), when).toBe(again);
    expect([...fs.image().keys()].filter((path) => path.endsWith(".part"))).toEqual([]);
  }
});

test("a power cut right after an acknowledgement loses nothing that was acknowledged", async () => {
  for (const scenario of [writeThenPublish, receiveThenPublish, writeThenRetain]) {
    const fs = new FaultyFileSystem(["/data"]);
    const promised: Promised = { durable: [], possible: [] };
    await scenario(fs, promised);
    const store = await open(fs.crash({ keep: "none" }));
    expect(indexesOf(store.list()).sort()).toEqual(promised.durable);
    for (const info of store.list()) await store.verify(info);
  }
});

describe("a failing call leaves no open file and no part file", () => {
  const kinds = ["open", "write", "size", "datasync", "rename", "syncDirectory"] as const;
  test.each(kinds)("during %s", async (kind) => {
    const { file, offer } = await offered(30, PAYLOAD);
    const tasks = [
      (store: SnapshotStore) => store.write(metaAt(20), inPieces(PAYLOAD)),
      (store: SnapshotStore) => receiveAll(store, offer, file),
    ];
    for (const task of tasks) {
      const fs = new FaultyFileSystem([DIRECTORY]);
      const store = await open(fs);
      fs.failCall(kind);
      await expect(task(store)).rejects.toThrowError();
      expect(fs.openFiles).toEqual([]);
      expect([...fs.image().keys()].filter((path) => path.endsWith(".part"))).toEqual([]);
      expect(store.list()).toEqual([]);
    }
  });

  test("and a disk that fills up in mid-write gets all of its room back", async () => {
    const fs = new FaultyFileSystem([DIRECTORY]);
    const store = await open(fs);
    await store.write(metaAt(10), inPieces(PAYLOAD));
    const used = fs.usedBytes;
    fs.capacityBytes = used + limits.snapshotWriteBytes + 10;
    await expect(store.write(metaAt(20), inPieces(PAYLOAD))).rejects.toMatchObject({ code: "DISK_FULL" });
    expect(fs.usedBytes).toBe(used);
    expect(indexesOf(store.list())).toEqual([10]);
    fs.capacityBytes = Number.POSITIVE_INFINITY;
    await store.write(metaAt(20), inPieces(PAYLOAD));
  });
});

describe("a call in progress", () => {
  test("ends before the part file is closed and removed when it is a write", async () => {
    const fs = new FaultyFileSystem([DIRECTORY]);
    const store = await open(fs);
    const gate = gateFor(fs, "write");
    async function* payload() {
      yield* inPieces(PAYLOAD);
      await gate.reached;
      throw new Error("the view was released");
    }
    const writing = store.write(metaAt(20), payload()).catch((error: unknown) => error);
    await gate.reached;
    await turnsOfTheLoop();
    expect(fs.openFiles).toHaveLength(1);
    gate.open();
    expect(await writing).toMatchObject({ message: "the view was released" });
    expect(fs.openFiles).toEqual([]);
    expect(fs.image().size).toBe(0);
  });

  test("ends before the file is closed when it is a read", async () => {
    const fs = new FaultyFileSystem([DIRECTORY]);
    const store = await open(fs);
    const reader = store.openPayload(await store.write(metaAt(20), inPieces(PAYLOAD)));
    const gate = gateFor(fs, "read", 2);
    await reader.next();
    await gate.reached;
    const closing = reader.return();
    await turnsOfTheLoop();
    expect(fs.openFiles).toHaveLength(1);
    gate.open();
    await closing;
    expect(fs.openFiles).toEqual([]);
  });

  test("is never forgotten when it is a sync that fails during a write, even if the last sync succeeds", async () => {
    const fs = new FaultyFileSystem([DIRECTORY]);
    const store = await open(fs);
    fs.failCall("datasync", 1);
    const payload = patterned(limits.snapshotSyncBytes + 2 * limits.snapshotWriteBytes);
    await failure("STORAGE_FAILED", () => store.write(metaAt(20), inPieces(payload, 100_000)));
    expect(store.list()).toEqual([]);
    expect(fs.image().size).toBe(0);
  });
});

test("a snapshot file whose size is not the declared one is not published", async () => {
  const fs = new FaultyFileSystem([DIRECTORY]);
  const store = await open(fs);
  const openWhole = fs.open.bind(fs);
  fs.open = async (path, mode) => {
    const file = await openWhole(path, mode);
    file.size = async () => 5;
    return file;
  };
  await failure("CORRUPT", () => store.write(metaAt(20), inPieces(PAYLOAD)));
});

test("a snapshot that is found damaged while a good copy is being published is listed as good afterwards", async () => {
  const fs = new FaultyFileSystem([DIRECTORY]);
  const store = await open(fs);
  const info = await store.write(metaAt(20), inPieces(PAYLOAD));
  fs.flipBit(info.path, 100_000);
  const reader = store.openPayload(info);
  const gate = gateFor(fs, "rename");
  const writing = store.write(metaAt(20), inPieces(PAYLOAD));
  await gate.reached;
  await failure("CORRUPT", () => collect(reader));
  expect(store.damaged()).toHaveLength(1);
  gate.open();
  const again = await writing;
  expect(store.list()).toEqual([again]);
  expect(store.damaged()).toEqual([]);
  await store.verify(again);
});

test("a staged snapshot that could not be published is removed", async () => {
  const fs = new FaultyFileSystem([DIRECTORY]);
  const store = await open(fs);
  const { file, offer } = await offered(20, PAYLOAD);
  const receiver = await store.receive(offer);
  await receiver.write(0, file);
  const staged = await receiver.finish();
  fs.failCall("rename");
  await expect(staged.publish()).rejects.toMatchObject({ code: "EIO" });
  await failure("FAILED_PRECONDITION", () => staged.publish());
  expect(fs.image().size).toBe(0);
});

test("a staged snapshot that a full disk keeps from being published can be published when there is room", async () => {
  const fs = new FaultyFileSystem([DIRECTORY]);
  const store = await open(fs);
  const { file, offer } = await offered(20, PAYLOAD);
  const receiver = await store.receive(offer);
  await receiver.write(0, file);
  const staged = await receiver.finish();
  fs.failCall("rename", 1, new CairnError("DISK_FULL", "no space left on the device"));
  await failure("DISK_FULL", () => staged.publish());
  expect(store.list()).toEqual([]);
  const info = await staged.publish();
  expect(store.list()).toEqual([info]);
  await store.verify(info);
});

/** Holds up the nth call of a kind until it is opened. */
function gateFor(fs: FaultyFileSystem, kind: CallKind, nth = 1) {
  let open = () => {};
  let reach = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  let calls = 0;
  fs.onCall = async (call) => {
    if (call.kind !== kind || ++calls !== nth) return;
    reach();
    await opened;
  };
  return { reached, open };
}

/** Long enough for anything that waits for nothing but promises. */
async function turnsOfTheLoop(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await setImmediate();
}

function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
