import { truncate, unlink, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import type { SnapshotInfo } from "../../../src/storage/snapshots/snapshot_info.js";
import {
  bytesOf,
  collect,
  expectBytes,
  failure,
  filesIn,
  inDirectory,
  indexesOf,
  inPieces,
  metaAt,
  openStore,
  patterned,
  RecordingFileSystem,
} from "../../support/snapshots/snapshot_files.js";

const PAYLOAD = patterned(3 * limits.snapshotChunkBytes + 321);

/** Flips a bit in the middle of the payload, where only a full read finds it. */
async function damage(info: SnapshotInfo, at = info.fileBytes >> 1): Promise<void> {
  const bytes = await bytesOf(info);
  bytes[at]! ^= 4;
  await writeFile(info.path, bytes);
}

describe("reading a snapshot", () => {
  test.each([
    ["empty", 0],
    ["exactly one chunk", limits.snapshotChunkBytes],
    ["one byte over", limits.snapshotChunkBytes + 1],
    ["several chunks", PAYLOAD.byteLength],
  ])("returns its payload: %s", (_, bytes) =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const payload = PAYLOAD.subarray(0, bytes);
      const info = await store.write(metaAt(20), inPieces(payload, 9999));
      expectBytes(await collect(store.openPayload(info)), payload);
      await store.verify(info);
    }),
  );

  test.each([1000, 65_536, limits.transferChunkBytes])(
    "returns its file in pieces of %i bytes, from any offset",
    (pieceBytes) =>
      inDirectory(async (directory) => {
        const store = await openStore(directory);
        const info = await store.write(metaAt(20), inPieces(PAYLOAD));
        const file = await bytesOf(info);
        for (const offset of [0, 1, 300_000, info.fileBytes - 1, info.fileBytes]) {
          const sizes: number[] = [];
          const copies: Buffer[] = [];
          for await (const piece of store.readFile(info, offset, pieceBytes)) {
            sizes.push(piece.byteLength);
            copies.push(Buffer.from(piece));
          }
          expectBytes(Buffer.concat(copies), file.subarray(offset));
          expect(sizes.slice(0, -1).every((size) => size === pieceBytes)).toBe(true);
          expect(sizes).toHaveLength(Math.ceil((info.fileBytes - offset) / pieceBytes));
        }
        expectBytes(await collect(store.readGoodFile(info, pieceBytes)), file);
      }),
  );

  test("refuses an offset or a piece size that is out of range", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      const wrong: [number, number][] = [[-1, 10], [0.5, 10], [info.fileBytes + 1, 10], [0, 0], [0, limits.transferChunkBytes + 1]]; // biome-ignore format: pairs
      for (const [offset, bytes] of wrong) {
        await failure("INVALID_ARGUMENT", () => collect(store.readFile(info, offset, bytes)));
        if (offset === 0) await failure("INVALID_ARGUMENT", () => collect(store.readGoodFile(info, bytes)));
      }
    }));

  test("closes the file and releases the snapshot when its reader stops early", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      await store.write(metaAt(30), inPieces(PAYLOAD));
      fs.calls.length = 0;
      for await (const _ of store.openPayload(info)) break;
      expect(fs.calls.filter((call) => call.startsWith("open"))).toHaveLength(1);
      expect(fs.calls.at(-1)).toBe("close");
      expect(indexesOf(await store.retain(1))).toEqual([20]);
    }));

  test("passes on an error of the disk, which does not condemn the snapshot", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      for (const number of [0, 1, 2, 3]) {
        fs.calls.length = 0;
        fs.failAt = number;
        await expect(store.verify(info)).rejects.toBe(fs.failWith);
      }
      fs.failAt = undefined;
      expect(store.list()).toEqual([info]);
      await store.verify(info);
    }));

  test("fails with NOT_FOUND when the snapshot is gone", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      await unlink(info.path);
      const error = await failure("NOT_FOUND", () => store.verify(info));
      expect(error.text).toContain(info.path);
    }));
});

describe("damage in a snapshot's payload", () => {
  test("is reported by verify with file and offset, and takes the snapshot off the list", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      await damage(info);
      const error = await failure("CORRUPT", () => store.verify(info));
      expect(error.text).toContain(`snapshot file ${info.path} is damaged at offset `);
      expect(error.text).toContain("chunk 1 has CRC32");
      expect(store.list()).toEqual([]);
      const { index, term, membership } = info;
      const meta = { index, term, membership };
      expect(store.damaged()).toEqual([{ path: info.path, reason: error.text, meta }]);
      expect(await filesIn(directory)).toHaveLength(1);
    }));

  test.each(["shorter", "longer"])("is found in a file that became %s", (how) =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      await truncate(info.path, info.fileBytes + (how === "longer" ? 1 : -1));
      const error = await failure("CORRUPT", () => store.verify(info));
      expect(error.text).toContain(`expected ${info.fileBytes} bytes`);
    }),
  );

  test("makes openPayload throw instead of ending", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      // In the trailer's digest: every chunk is good, and the whole is not.
      await damage(info, info.fileBytes - 1);
      let bytes = 0;
      await failure("CORRUPT", async () => {
        for await (const chunk of store.openPayload(info)) bytes += chunk.byteLength;
      });
      expect(bytes).toBeGreaterThan(0);
      expect(store.list()).toEqual([]);
    }));

  test("is never returned by readGoodFile, but is by readFile", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      const good = await bytesOf(info);
      await damage(info, info.fileBytes - 1);
      expectBytes(await collect(store.readFile(info, 0, 1000)), await bytesOf(info));
      const copies: Buffer[] = [];
      await failure("CORRUPT", async () => {
        for await (const piece of store.readGoodFile(info, 1000)) copies.push(Buffer.from(piece));
      });
      const sent = Buffer.concat(copies);
      expect(sent.byteLength).toBeLessThan(info.fileBytes);
      expectBytes(sent, good.subarray(0, sent.byteLength));
    }));

  test("is reported for a good file that is not the listed one", () =>
    inDirectory(async (directory) => {
      const store = await openStore(`${directory}/a`);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      const other = await (await openStore(`${directory}/b`)).write(
        metaAt(20),
        inPieces(patterned(PAYLOAD.byteLength, 2)),
      );
      await writeFile(info.path, await bytesOf(other));
      const error = await failure("CORRUPT", () => store.verify(info));
      expect(error.text).toContain("was replaced");
    }));
});

describe("a snapshot that a full read finds damaged", () => {
  test("leaves the list with the reason, so that the next one is the newest", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      for (const index of [10, 20, 30]) await store.write(metaAt(index), inPieces(PAYLOAD));
      const [newest, middle] = store.list();
      await damage(newest!);
      await damage(middle!);
      expect(store.newest()).toBe(newest);
      for (const each of [newest!, middle!]) await failure("CORRUPT", () => store.verify(each));
      expect(indexesOf(store.list())).toEqual([10]);
      await store.verify(store.newest()!);
      expect(store.damaged().map(({ path }) => path)).toEqual([newest!.path, middle!.path]);
      for (const { reason } of store.damaged()) expect(reason).toContain("has CRC32");
    }));

  test("stays on the list when the error says nothing about the file", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      for (const index of [10, 20]) await store.write(metaAt(index), inPieces(PAYLOAD));
      fs.calls.length = 0;
      fs.failAt = 0;
      fs.failWith = Object.assign(new Error("too many open files"), { code: "EMFILE" });
      await expect(store.verify(store.newest()!)).rejects.toBe(fs.failWith);
      expect(indexesOf(store.list())).toEqual([20, 10]);
    }));
});

describe("a damaged snapshot", () => {
  test("is replaced when it is written again, and a reader of the old file does not touch the new one", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const old = await store.write(metaAt(20), inPieces(PAYLOAD));
      await damage(old, old.fileBytes - 1);
      const reader = store.openPayload(old);
      await reader.next();
      await failure("CORRUPT", () => store.verify(old));
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      await failure("CORRUPT", () => collect(reader));
      expect(store.list()).toEqual([info]);
      expect(store.damaged()).toEqual([]);
      await store.verify(info);
    }));

  test("is replaced when it is published again, even if the damage was not noticed", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD));
      await damage(info);
      expect(await store.write(metaAt(20), inPieces(PAYLOAD))).toBe(info);
      await store.verify(info);
    }));
});
