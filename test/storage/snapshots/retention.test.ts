import { unlink, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { InvariantViolation } from "../../../src/base/assert.js";
import { limits } from "../../../src/base/limits.js";
import type { SnapshotStore } from "../../../src/storage/snapshots/snapshot_store.js";
import {
  collect,
  filesIn,
  inDirectory,
  indexesOf,
  inPieces,
  metaAt,
  openStore,
  patterned,
  RecordingFileSystem,
} from "../../support/snapshots/snapshot_files.js";

const PAYLOAD = patterned(limits.snapshotWriteBytes * 3);

async function fill(store: SnapshotStore, ...indexes: number[]): Promise<void> {
  for (const index of indexes) await store.write(metaAt(index), inPieces(PAYLOAD));
}

test("retention keeps the newest two snapshots unless told otherwise, and returns the removed ones", () =>
  inDirectory(async (directory) => {
    const store = await openStore(directory);
    await fill(store, 10, 20, 30, 40);
    expect(indexesOf(await store.retain())).toEqual([20, 10]);
    expect(indexesOf(store.list())).toEqual([40, 30]);
    expect(await filesIn(directory)).toHaveLength(2);
    expect(indexesOf((await openStore(directory)).list())).toEqual([40, 30]);
    expect(indexesOf(await store.retain(1))).toEqual([30]);
    expect(await store.retain(1)).toEqual([]);
  }));

test("retention syncs the directory after the last removal, and leaves it alone when it removes nothing", () =>
  inDirectory(async (directory) => {
    const fs = new RecordingFileSystem();
    const store = await openStore(directory, fs);
    await fill(store, 10, 20, 30);
    fs.calls.length = 0;
    await store.retain(1);
    expect(fs.calls).toEqual(["unlink snap", "unlink snap", "syncDirectory"]);
    await store.retain(1);
    expect(fs.calls).toHaveLength(3);
  }));

test("retention never removes a pinned snapshot, and the pin counts its holders", () =>
  inDirectory(async (directory) => {
    const store = await openStore(directory);
    await fill(store, 10, 20, 30);
    const [, , oldest] = store.list();
    const first = store.pin(oldest!);
    const second = store.pin(oldest!);
    expect(indexesOf(await store.retain(1))).toEqual([20]);
    first();
    first();
    expect(await store.retain(1)).toEqual([]);
    second();
    expect(indexesOf(await store.retain(1))).toEqual([10]);
  }));

test("retention never removes a snapshot that is being read, and lets the reader finish", () =>
  inDirectory(async (directory) => {
    const store = await openStore(directory);
    await fill(store, 10, 20);
    const oldest = store.list()[1]!;
    for (const open of [
      () => store.openPayload(oldest),
      () => store.readFile(oldest, 5, 1000),
      () => store.readGoodFile(oldest, 1000),
    ]) {
      const reader = open();
      await reader.next();
      expect(await store.retain(1)).toEqual([]);
      await collect(reader);
    }
    expect(indexesOf(await store.retain(1))).toEqual([10]);
  }));

test("retention does not count damaged files, and keeps them", () =>
  inDirectory(async (directory) => {
    await fill(await openStore(directory), 10, 20);
    await writeFile(`${directory}/0000000000000030-0000000000000003.snap`, "damaged");
    const store = await openStore(directory);
    expect(await store.retain(2)).toEqual([]);
    expect(indexesOf(await store.retain(1))).toEqual([10]);
    expect(await filesIn(directory)).toHaveLength(2);
    expect(store.damaged()).toHaveLength(1);
  }));

test("retention ignores a file that is gone, and fails for one that cannot be removed, which stays listed", () =>
  inDirectory(async (directory) => {
    const fs = new RecordingFileSystem();
    const store = await openStore(directory, fs);
    await fill(store, 10, 20, 30);
    await unlink(store.list()[1]!.path);
    fs.calls.length = 0;
    fs.failAt = 1;
    await expect(store.retain(1)).rejects.toBe(fs.failWith);
    expect(indexesOf(store.list())).toEqual([30, 10]);
    fs.failAt = undefined;
    expect(indexesOf(await store.retain(1))).toEqual([10]);
  }));

test("retention of no snapshot is a bug of its caller", () =>
  inDirectory(async (directory) => {
    const store = await openStore(directory);
    expect(() => store.retain(0)).toThrowError(InvariantViolation);
  }));
