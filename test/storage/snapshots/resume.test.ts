import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { TRAILER_BYTES } from "../../../src/encoding/snapshot_format.js";
import type { SnapshotReceiver } from "../../../src/storage/snapshots/receiver.js";
import { SnapshotStore } from "../../../src/storage/snapshots/snapshot_store.js";
import { FaultyFileSystem } from "../../support/disk/faulty_fs.js";
import {
  bytesOf,
  CLUSTER,
  expectBytes,
  failure,
  filesIn,
  headerAt,
  inDirectory,
  inPieces,
  metaAt,
  offered,
  openStore,
  patterned,
  RecordingFileSystem,
} from "../../support/snapshots/snapshot_files.js";

const CHUNK = limits.snapshotChunkBytes;
/** Ten chunks and a short one. */
const PAYLOAD = patterned(10 * CHUNK + 1000);
const { file, offer } = await offered(20, PAYLOAD);
/** Where chunk `number` begins in the file. */
const startOf = (number: number) => file.byteLength - TRAILER_BYTES - 1008 - (10 - number) * (CHUNK + 8);

async function send(receiver: SnapshotReceiver, end: number, from = receiver.offset, bytes = file): Promise<void> {
  for (let at = from; at < end; at += 100_000)
    await receiver.write(at, bytes.subarray(at, Math.min(at + 100_000, end)));
}

/** Receives the first `end` bytes and gives up. */
async function receivePart(store: SnapshotStore, end: number): Promise<void> {
  const receiver = await store.receive(offer);
  await send(receiver, end);
  await receiver.abort();
}

async function completes(store: SnapshotStore): Promise<void> {
  const receiver = await store.receive(offer);
  await send(receiver, file.byteLength);
  const info = await (await receiver.finish()).publish();
  expectBytes(await bytesOf(info), file);
}

describe("a transfer resumes", () => {
  test.each([
    ["in the middle of a chunk: behind the chunk before it", startOf(7) + 100, startOf(7)],
    ["between a chunk's head and its bytes: before the head", startOf(7) + 8, startOf(7)],
    ["at the end of a chunk: there", startOf(7), startOf(7)],
    ["in the short chunk: before it", startOf(10) + 500, startOf(10)],
    ["in the trailer: before it", file.byteLength - 1, file.byteLength - TRAILER_BYTES],
    ["before the end of the first chunk: from the beginning", startOf(1) - 1, 0],
  ])("after it was given up %s", (_, end, from) =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      await receivePart(store, end);
      expect(await store.receivedBytes(offer)).toBe(from === 0 ? 0 : end);
      const again = await store.receive(offer);
      expect(again.offset).toBe(from);
      await again.abort();
      // The same after a restart.
      const restarted = await openStore(directory);
      const receiver = await restarted.receive(offer);
      expect(receiver.offset).toBe(from);
      await send(receiver, file.byteLength);
      const info = await (await receiver.finish()).publish();
      expectBytes(await bytesOf(info), file);
      expect(await filesIn(directory)).toHaveLength(1);
    }),
  );

  test("at the place where the bytes on disk stop being good", () =>
    inDirectory(async (directory) => {
      const part = async () => join(directory, (await filesIn(directory))[0]!);
      const damages: [what: string, damage: (path: string) => Promise<void>, from: number][] = [
        ["a torn end", (path) => truncate(path, startOf(5) + 77), startOf(5)],
        [
          "zeros at the end",
          async (path) => truncate(path, startOf(5)).then(() => truncate(path, startOf(9))),
          startOf(5),
        ],
        ["a flipped bit", (path) => flip(path, startOf(3) + 1000), startOf(3)],
        ["a flipped bit in a chunk's length", (path) => flip(path, startOf(3)), startOf(3)],
        ["a flipped bit in the first chunk", (path) => flip(path, startOf(0) + 99), 0],
        ["a flipped bit in the header", (path) => flip(path, 25), 0],
        ["nothing at all", (path) => truncate(path, 0), 0],
        ["more than there should be", (path) => append(path, file.byteLength), startOf(8)],
      ];
      for (const [what, damage, from] of damages) {
        await receivePart(await openStore(directory), startOf(8));
        await damage(await part());
        const receiver = await (await openStore(directory)).receive(offer);
        expect(receiver.offset, what).toBe(from);
        await send(receiver, startOf(8));
        await receiver.abort();
      }
      await completes(await openStore(directory));
    }));

  test("at the place that the disk cannot read", async () => {
    const fs = new FaultyFileSystem(["/data"]);
    const open = () => SnapshotStore.open({ fs, directory: "/data/snapshots", clusterId: CLUSTER });
    await receivePart(await open(), startOf(8));
    const store = await open();
    // Reads are of snapshotWriteBytes: two of them give three chunks.
    fs.failCall("read", 3, Object.assign(new Error("bad sector"), { code: "EIO" }));
    const receiver = await store.receive(offer);
    expect(receiver.offset).toBe(startOf(3));
    await send(receiver, file.byteLength);
    await (await receiver.finish()).publish();
  });

  test("before bytes that were damaged in transit", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const damaged = Buffer.from(file);
      damaged[startOf(6) + 5000]! ^= 1;
      const receiver = await store.receive(offer);
      await failure("CORRUPT", () => send(receiver, file.byteLength, 0, damaged));
      const again = await store.receive(offer);
      expect(again.offset).toBe(startOf(6));
      await again.abort();
      await completes(store);
    }));

  test("in the file in which it was given up, however often, and repeats only the incomplete chunk", () =>
    inDirectory(async (directory) => {
      let sent = 0;
      for (let end = 150_000; end < file.byteLength; end += 150_000) {
        const store = await openStore(directory);
        const receiver = await store.receive(offer);
        sent += Math.max(0, end - receiver.offset);
        await send(receiver, end);
        await receiver.abort();
      }
      const rounds = Math.floor(file.byteLength / 150_000);
      expect(sent).toBeLessThan(file.byteLength + rounds * (CHUNK + 8));
      await completes(await openStore(directory));
    }));

  test("in no file in which another cluster's file, or another position, is found", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const other = await offered(20, PAYLOAD, headerAt(20, { clusterId: "cluster-2" }));
      await receivePart(store, startOf(4));
      const path = join(directory, (await filesIn(directory))[0]!);
      await writeFile(path, other.file);
      const receiver = await (await openStore(directory)).receive(offer);
      expect(receiver.offset).toBe(0);
      await send(receiver, file.byteLength);
      expectBytes(await bytesOf(await (await receiver.finish()).publish()), file);
    }));

  test("after reading the bytes a piece at a time, and stops on request without a loss", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      await receivePart(await openStore(directory), startOf(9));
      const store = await openStore(directory, fs);
      const abort = new AbortController();
      fs.calls.length = 0;
      const receiving = store.receive(offer, { signal: abort.signal });
      abort.abort();
      await failure("CANCELLED", () => receiving);
      expect(fs.calls.filter((call) => call === "read").length).toBeLessThanOrEqual(1);
      fs.calls.length = 0;
      const receiver = await store.receive(offer);
      expect(receiver.offset).toBe(startOf(9));
      expect(fs.calls.filter((call) => call === "read")).toHaveLength(
        Math.ceil(startOf(9) / limits.snapshotWriteBytes),
      );
      await receiver.abort();
    }));
});

describe("a partly received snapshot is removed", () => {
  test("when another snapshot is offered, but not while it is being received", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const other = await offered(30, PAYLOAD);
      const first = await store.receive(offer);
      await send(first, startOf(5));
      const second = await store.receive(other.offer);
      await send(first, file.byteLength);
      await (await first.finish()).publish();
      await second.abort();
      const twin = { ...offer, index: 40, sha256: other.offer.sha256 };
      const third = await store.receive(other.offer);
      await send(third, startOf(5), 0, other.file);
      await third.abort();
      expect(await store.receivedBytes(other.offer)).toBe(startOf(5));
      await (await store.receive(twin)).abort();
      expect(await store.receivedBytes(other.offer)).toBe(0);
      expect((await filesIn(directory)).filter((name) => name.endsWith(".part"))).toEqual([]);
    }));

  test("when a snapshot of the same index or above is published, and not when it is one below", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      await receivePart(store, startOf(5));
      await store.write(metaAt(19), inPieces(patterned(10)));
      expect(await store.receivedBytes(offer)).toBe(startOf(5));
      await store.write(metaAt(21), inPieces(patterned(10)));
      expect(await store.receivedBytes(offer)).toBe(0);
      expect((await filesIn(directory)).every((name) => name.endsWith(".snap"))).toBe(true);
    }));

  test("when its digest does not match, even if each chunk is good", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const other = await offered(20, patterned(PAYLOAD.byteLength, 2));
      const receiver = await store.receive(offer);
      await send(receiver, startOf(2), 0, other.file);
      await receiver.abort();
      const resumed = await store.receive(offer);
      expect(resumed.offset).toBe(startOf(2));
      await failure("CORRUPT", () => send(resumed, file.byteLength));
      expect(await filesIn(directory)).toEqual([]);
      await completes(store);
    }));

  test("when the disk is full and its room is needed", async () => {
    const fs = new FaultyFileSystem(["/data"]);
    const store = await SnapshotStore.open({ fs, directory: "/data/snapshots", clusterId: CLUSTER });
    const receiver = await store.receive(offer);
    fs.capacityBytes = fs.usedBytes + startOf(5);
    await failure("DISK_FULL", () => send(receiver, file.byteLength));
    expect(fs.names("/data/snapshots")).toEqual([]);
  });
});

test("a snapshot without room is refused before it begins, and the received part counts as room", async () => {
  const fs = new FaultyFileSystem(["/data"]);
  const store = await SnapshotStore.open({ fs, directory: "/data/snapshots", clusterId: CLUSTER });
  fs.capacityBytes = fs.usedBytes + file.byteLength + limits.receiveReserveBytes;
  await receivePart(store, startOf(6));
  fs.capacityBytes -= 1;
  const error = await failure("DISK_FULL", () => store.receive(offer));
  expect(error.text).toContain(`expected ${file.byteLength - startOf(6)} more bytes of the snapshot`);
  expect(await store.receivedBytes(offer)).toBe(startOf(6));
  fs.capacityBytes += 1;
  expect((await store.receive(offer)).offset).toBe(startOf(6));
});

test("a power cut at any call of a transfer, even a resumed one, leaves a file that can be resumed", async () => {
  const directory = "/data/snapshots";
  const scenario = async (fs: FaultyFileSystem) => {
    for (const end of [startOf(4) + 10, startOf(9) + 10]) {
      await receivePart(await SnapshotStore.open({ fs, directory, clusterId: CLUSTER }), end);
    }
    await completesIn(fs);
  };
  const completesIn = async (fs: FaultyFileSystem) => {
    const store = await SnapshotStore.open({ fs, directory, clusterId: CLUSTER });
    const receiver = await store.receive(offer);
    const from = receiver.offset;
    await send(receiver, file.byteLength);
    const info = await (await receiver.finish()).publish();
    await store.verify(info);
    return from;
  };
  const whole = new FaultyFileSystem(["/data"]);
  await scenario(whole);
  let state = 7;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const resumedFrom = new Set<number>();
  for (let cut = 1; cut < whole.changes; cut++) {
    const fs = new FaultyFileSystem(["/data"]);
    fs.cutPowerAfter(cut);
    await expect(scenario(fs)).rejects.toThrowError(/the power/);
    for (const keep of ["none", "all", "random"] as const) {
      const after = fs.crash({ keep, random });
      const published = after.image().has(`${directory}/0000000000000020-0000000000000003.snap`);
      const from = await completesIn(after);
      if (!published) resumedFrom.add(from);
      expect(after.openFiles).toEqual([]);
    }
  }
  expect(resumedFrom.size).toBeGreaterThan(4);
});

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at]! ^= 1;
  await writeFile(path, bytes);
}

/** Makes a file `bytes` long, with rubbish at its end. */
async function append(path: string, bytes: number): Promise<void> {
  const present = await readFile(path);
  await writeFile(path, Buffer.concat([present, patterned(2 * bytes - present.byteLength, 9)]));
}

test("a part that another process has received is written again, because a failed sync is not repaired by the next", async () => {
  const fs = new FaultyFileSystem(["/data"]);
  const store = await openStore("/data", fs);
  const receiver = await store.receive(offer);
  fs.failCall("datasync");
  // The process ends before it has removed the file.
  fs.failCall("unlink");
  await send(receiver, file.byteLength);
  await expect(receiver.finish()).rejects.toMatchObject({ code: "STORAGE_FAILED" });
  const restarted = await openStore("/data", fs);
  const again = await restarted.receive(offer);
  expect(again.offset).toBeGreaterThan(limits.snapshotSyncBytes);
  await send(again, file.byteLength);
  const info = await (await again.finish()).publish();
  const found = fs.crash({ keep: "none" }).contents(info.path);
  expectBytes(found, file);
});
