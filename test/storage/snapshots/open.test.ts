import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { snapshotFileName } from "../../../src/storage/snapshots/file_names.js";
import { SnapshotStore } from "../../../src/storage/snapshots/snapshot_store.js";
import { nodeFileSystem } from "../../../src/system/fs.js";
import {
  CLUSTER,
  encodeToBuffer,
  expectBytes,
  filesIn,
  headerAt,
  inDirectory,
  indexesOf,
  inPieces,
  metaAt,
  offered,
  openStore,
  patterned,
  RecordingFileSystem,
  receiveAll,
} from "../../support/snapshots/snapshot_files.js";

const PAYLOAD = patterned(300_000);

describe("opening a snapshot store", () => {
  test("makes the directory durably", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      await openStore(`${directory}/snapshots`, fs);
      expect(fs.calls).toEqual(["exists", "makeDirectory", "syncDirectory", "list"]);
      expect(await filesIn(directory)).toEqual(["snapshots"]);
    }));

  test("removes half-written files and reports them, and leaves other files alone", () =>
    inDirectory(async (directory) => {
      const own = `${directory}/0000000000000020-0000000000000003.part`;
      await writeFile(own, "half");
      await writeFile(`${directory}/NOTES`, "other");
      const reports: [string, unknown][] = [];
      const log = (facts: object, message: string) => reports.push([message, facts]);
      const logger = { info: log, warn: log };
      await SnapshotStore.open({ fs: nodeFileSystem, directory, clusterId: CLUSTER, logger });
      expect(await filesIn(directory)).toEqual(["NOTES"]);
      expect(reports).toEqual([["removed a half-written snapshot", { path: own }]]);
    }));

  test("keeps only the most complete half-received file, unless a snapshot has overtaken it", () =>
    inDirectory(async (directory) => {
      const names = [
        "0000000000000019-0000000000000003-abcdef01.part",
        "0000000000000021-0000000000000003-abcdef01.part",
        "0000000000000021-0000000000000004-abcdef01.part",
      ];
      for (const name of names) await writeFile(`${directory}/${name}`, "half");
      await openStore(directory);
      expect(await filesIn(directory)).toEqual([names[2]]);
      await rm(`${directory}/${names[2]}`);
      const { path } = await (await openStore(directory)).write(metaAt(20), inPieces(PAYLOAD));
      for (const name of names) await writeFile(`${directory}/${name}`, "half");
      await (await openStore(directory)).write(metaAt(20), inPieces(PAYLOAD));
      expect(await filesIn(directory)).toEqual([basename(path), names[2]]);
      await (await openStore(directory)).write(metaAt(21), inPieces(PAYLOAD));
      expect((await filesIn(directory)).filter((name) => name.endsWith(".part"))).toEqual([]);
    }));

  test("lists snapshots newest first: by index, then by term", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      for (const [index, term] of [
        [9, 3],
        [100, 2],
        [10, 2],
        [10, 3],
      ] as const) {
        // biome-ignore format: pairs
        await store.write(metaAt(index, term), inPieces(PAYLOAD));
      }
      const found = (await openStore(directory)).list().map(({ index, term }) => [index, term]);
      expect(found).toEqual([[100, 2], [10, 3], [10, 2], [9, 3]]); // biome-ignore format: pairs
    }));

  test("reads the header and trailer of a file, not its payload", () =>
    inDirectory(async (directory) => {
      await (await openStore(directory)).write(metaAt(20), inPieces(patterned(5_000_000)));
      let bytesRead = 0;
      const store = await SnapshotStore.open({
        fs: {
          ...nodeFileSystem,
          open: async (path, mode) => {
            const file = await nodeFileSystem.open(path, mode);
            const read = async (buffer: Uint8Array, position: number) => {
              const got = await file.read(buffer, position);
              bytesRead += got;
              return got;
            };
            return { read, size: () => file.size(), close: () => file.close() } as unknown as typeof file;
          },
        },
        directory,
        clusterId: CLUSTER,
      });
      expect(indexesOf(store.list())).toEqual([20]);
      expect(bytesRead).toBeLessThan(500);
    }));
});

describe("a snapshot file that must not be used is listed as damaged, with the reason, and kept", () => {
  const NAME = snapshotFileName({ index: 20, term: 3 });
  const PLACES: [string, (file: Buffer) => Buffer | undefined, RegExp][] = [
    ["no bytes", () => Buffer.alloc(0), /offset 0: the file ends here, expected 77 bytes or more/],
    ["a flipped bit in the magic", (file) => flip(file, 0), /offset 0: it starts with/],
    ["a flipped bit in the header", (file) => flip(file, 22), /offset 20: the header has CRC32/],
    ["a flipped bit in the trailer", (file) => flip(file, file.byteLength - 1), /the trailer has CRC32/],
    ["a missing last byte", (file) => file.subarray(0, -1), /the file ends|no end mark|the trailer has/],
    [
      "a missing chunk",
      (file) => Buffer.concat([file.subarray(0, -1056), file.subarray(-56)]),
      /expected \d+ bytes as header and trailer say/,
    ],
    ["a byte too many", (file) => Buffer.concat([file, Buffer.alloc(1)]), /no end mark|the trailer has/],
  ];

  test.each(PLACES)("for %s", (_, change, reason) =>
    inDirectory(async (directory) => {
      await (await openStore(directory)).write(metaAt(10), inPieces(PAYLOAD));
      const file = await encodeToBuffer(headerAt(20), PAYLOAD);
      await writeFile(`${directory}/${NAME}`, change(file)!);
      const store = await openStore(directory);
      expect(indexesOf(store.list())).toEqual([10]);
      expect(store.newest()?.index).toBe(10);
      expect(store.damaged()).toMatchObject([{ path: `${directory}/${NAME}`, reason: expect.stringMatching(reason) }]);
      expect(await filesIn(directory)).toHaveLength(2);
    }),
  );

  test("for a trailer whose counts fit the file's size, but not each other", () =>
    inDirectory(async (directory) => {
      const file = await encodeToBuffer(headerAt(20), PAYLOAD);
      const trailer = file.subarray(-56);
      // A chunk more takes 8 bytes for its head: the size of the file would be right.
      trailer.writeBigUInt64LE(trailer.readBigUInt64LE(8) + 1n, 8);
      trailer.writeBigUInt64LE(trailer.readBigUInt64LE(16) - 8n, 16);
      trailer.writeUInt32LE(crc32(trailer.subarray(8)), 4);
      await writeFile(`${directory}/${NAME}`, file);
      const store = await openStore(directory);
      expect(store.damaged()[0]?.reason).toContain("the trailer says 3 chunks, expected 2");
    }));

  test("for every flipped bit of the header and trailer that opening reads", () =>
    inDirectory(async (directory) => {
      const file = await encodeToBuffer(headerAt(20), Buffer.from("abc"));
      const payloadStart = 20 + file.readUInt32LE(12);
      const places = [...file.keys()].filter((at) => at < payloadStart || at >= file.byteLength - 56);
      for (const at of places) {
        await writeFile(`${directory}/${NAME}`, flip(file, at));
        const store = await openStore(directory);
        expect(store.list(), `byte ${at}`).toEqual([]);
        expect(store.damaged(), `byte ${at}`).toHaveLength(1);
      }
    }));

  test("for a name with another index, or another term", () =>
    inDirectory(async (directory) => {
      const file = await encodeToBuffer(headerAt(20), PAYLOAD);
      const names = [snapshotFileName({ index: 21, term: 3 }), snapshotFileName({ index: 20, term: 4 }), "backup.snap"];
      for (const name of names) await writeFile(`${directory}/${name}`, file);
      const store = await openStore(directory);
      expect(store.list()).toEqual([]);
      expect(store.damaged()).toHaveLength(3);
      for (const { reason } of store.damaged()) {
        expect(reason).toContain("holds the snapshot at index 20 of term 3, which contradicts its name");
      }
    }));

  test("for another cluster's file", () =>
    inDirectory(async (directory) => {
      const file = await encodeToBuffer(headerAt(20, { clusterId: "cluster-2" }), PAYLOAD);
      await writeFile(`${directory}/${NAME}`, file);
      const store = await openStore(directory);
      expect(store.list()).toEqual([]);
      expect(store.damaged()[0]?.reason).toContain("is of cluster cluster-2, expected cluster-1");
    }));

  test("for a directory with a snapshot's name", () =>
    inDirectory(async (directory) => {
      await mkdir(`${directory}/${NAME}`);
      const store = await openStore(directory);
      expect(store.damaged()).toHaveLength(1);
    }));

  test("until a good copy from another node replaces it", () =>
    inDirectory(async (directory) => {
      const { file, offer } = await offered(20, PAYLOAD);
      await writeFile(`${directory}/${NAME}`, flip(file, 0));
      const store = await openStore(directory);
      expect(store.damaged()).toHaveLength(1);
      await receiveAll(store, offer, file);
      expect(store.damaged()).toEqual([]);
      expect(indexesOf(store.list())).toEqual([20]);
      expectBytes(await readFile(`${directory}/${NAME}`), file);
    }));

  test("but an error that says nothing about the file is thrown", () =>
    inDirectory(async (directory) => {
      await (await openStore(directory)).write(metaAt(10), inPieces(PAYLOAD));
      const fs = new RecordingFileSystem();
      fs.failAt = 2;
      fs.failWith = Object.assign(new Error("too many open files"), { code: "EMFILE" });
      await expect(openStore(directory, fs)).rejects.toBe(fs.failWith);
      expect(fs.calls[2]).toBe("open read snap");
    }));

  test("for a file that the disk cannot read", () =>
    inDirectory(async (directory) => {
      await (await openStore(directory)).write(metaAt(10), inPieces(PAYLOAD));
      const fs = new RecordingFileSystem();
      fs.failAt = 4;
      fs.failWith = Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" });
      const store = await openStore(directory, fs);
      expect(fs.calls[4]).toBe("read");
      expect(store.damaged()).toMatchObject([{ path: expect.any(String), reason: "EIO: i/o error, read" }]);
    }));
});

test("a snapshot that was renamed is found again when its name is corrected", () =>
  inDirectory(async (directory) => {
    const info = await (await openStore(directory)).write(metaAt(20), inPieces(PAYLOAD));
    await rename(info.path, `${directory}/x.snap`);
    expect((await openStore(directory)).list()).toEqual([]);
    await rename(`${directory}/x.snap`, info.path);
    expect((await openStore(directory)).list()).toEqual([info]);
  }));

function flip(file: Buffer, at: number): Buffer {
  const flipped = Buffer.from(file);
  flipped[at]! ^= 1;
  return flipped;
}
