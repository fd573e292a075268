import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import {
  bytesOf,
  encodeToBuffer,
  expectBytes,
  failure,
  filesIn,
  headerAt,
  inDirectory,
  indexesOf,
  inPieces,
  metaAt,
  openStore,
  patterned,
  RecordingFileSystem,
} from "../../support/snapshots/snapshot_files.js";

const PAYLOAD = patterned(2 * limits.snapshotChunkBytes + 17);

describe("writing a snapshot", () => {
  test("publishes the encoded file and returns its description", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const info = await store.write(metaAt(20), inPieces(PAYLOAD, 70_000));
      const file = await encodeToBuffer(headerAt(20), PAYLOAD);
      expect(await filesIn(directory)).toEqual(["0000000000000020-0000000000000003.snap"]);
      expectBytes(await bytesOf(info), file);
      expect(info).toEqual({
        ...metaAt(20),
        payloadBytes: PAYLOAD.byteLength,
        fileBytes: file.byteLength,
        sha256: Uint8Array.from(file.subarray(-32)),
        path: `${directory}/0000000000000020-0000000000000003.snap`,
      });
      expect(store.list()).toEqual([info]);
      // A store that is opened on the same files knows the same of them.
      expect((await openStore(directory)).list()).toEqual([info]);
    }));

  test("renames the file after its bytes are durable, and publishes it after its name is", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      fs.calls.length = 0;
      await store.write(metaAt(20), inPieces(patterned(1000)));
      expect(fs.calls).toEqual([
        "exists",
        "open create part",
        "write",
        "size",
        "datasync",
        "close",
        "rename part snap",
        "syncDirectory",
      ]);
    }));

  test("writes large pieces, and syncs now and then", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      fs.calls.length = 0;
      const payloadBytes = 2 * limits.snapshotSyncBytes + 1;
      await store.write(metaAt(20), inPieces(patterned(payloadBytes), 65_536));
      const writes = fs.calls.filter((call) => call === "write").length;
      expect(writes).toBe(Math.ceil(store.newest()!.fileBytes / limits.snapshotWriteBytes));
      expect(fs.calls.filter((call) => call === "datasync")).toHaveLength(3);
      expect(fs.calls.indexOf("rename part snap")).toBeGreaterThan(fs.calls.lastIndexOf("datasync"));
      await store.verify(store.newest()!);
    }));

  test("leaves no part file and an unchanged list when any call fails", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      await store.write(metaAt(10), inPieces(PAYLOAD));
      fs.calls.length = 0;
      await store.write(metaAt(11), inPieces(PAYLOAD));
      const calls = [...fs.calls];
      const before = store.list();
      expect(calls).toContain("syncDirectory");
      for (const [number, call] of calls.entries()) {
        fs.calls.length = 0;
        fs.failAt = number;
        await expect(store.write(metaAt(20), inPieces(PAYLOAD)), call).rejects.toBe(fs.failWith);
        fs.failAt = undefined;
        expect(store.list(), call).toBe(before);
        const files = await filesIn(directory);
        // Once renamed it has its name; whether that is durable is not known, and the process stops.
        const named = call === "syncDirectory" ? 3 : 2;
        expect(files, call).toHaveLength(named);
        expect(files.every((name) => name.endsWith(".snap"))).toBe(true);
      }
    }));

  test("reports a full disk as such, and the next try succeeds", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      fs.calls.length = 0;
      fs.failAt = 3;
      fs.failWith = new CairnError("DISK_FULL", "no space left");
      await failure("DISK_FULL", () => store.write(metaAt(20), inPieces(PAYLOAD)));
      expect(fs.calls[3]).toBe("write");
      expect(await filesIn(directory)).toEqual([]);
      fs.failAt = undefined;
      await store.write(metaAt(20), inPieces(PAYLOAD));
      await store.verify(store.newest()!);
    }));

  test("passes on an error of the payload, and leaves nothing", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const broken = new Error("the view was released");
      async function* payload() {
        yield* inPieces(PAYLOAD);
        throw broken;
      }
      await expect(store.write(metaAt(20), payload())).rejects.toBe(broken);
      expect(await filesIn(directory)).toEqual([]);
      expect(store.list()).toEqual([]);
    }));

  test("lets the payload clean up after an error of the disk", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      fs.calls.length = 0;
      fs.failAt = 2;
      let cleanedUp = false;
      async function* payload() {
        try {
          for (;;) yield PAYLOAD;
        } finally {
          cleanedUp = true;
        }
      }
      await expect(store.write(metaAt(20), payload())).rejects.toBe(fs.failWith);
      expect(cleanedUp).toBe(true);
    }));

  test("refuses a bad header, and leaves nothing", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      await failure("INVALID_ARGUMENT", () => store.write(metaAt(0), inPieces(PAYLOAD)));
      expect(await filesIn(directory)).toEqual([]);
    }));
});

describe("cancelling the write of a snapshot", () => {
  test("touches nothing when it comes before the start", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      fs.calls.length = 0;
      await failure("CANCELLED", () =>
        store.write(metaAt(20), inPieces(PAYLOAD), { signal: AbortSignal.abort("stopping") }),
      );
      expect(fs.calls).toEqual([]);
    }));

  test("ends a write whose payload never continues, and removes the part file", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const controller = new AbortController();
      async function* payload() {
        yield PAYLOAD;
        controller.abort();
        await new Promise(() => undefined);
      }
      await failure("CANCELLED", () => store.write(metaAt(20), payload(), { signal: controller.signal }));
      expect(await filesIn(directory)).toEqual([]);
      expect(store.list()).toEqual([]);
    }));

  test("keeps the snapshot from being published even during the last sync", () =>
    inDirectory(async (directory) => {
      const controller = new AbortController();
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, {
        open: async (path, mode) => {
          const file = await fs.open(path, mode);
          const datasync = () => {
            controller.abort();
            return file.datasync();
          };
          return { ...file, datasync };
        },
        openNow: fs.openNow,
        list: fs.list,
        makeDirectory: fs.makeDirectory,
        rename: fs.rename,
        symlink: fs.symlink,
        readLink: fs.readLink,
        unlink: fs.unlink,
        exists: fs.exists,
        removeAll: fs.removeAll,
        availableBytes: fs.availableBytes,
        syncDirectory: fs.syncDirectory,
      });
      await failure("CANCELLED", () => store.write(metaAt(20), inPieces(PAYLOAD), { signal: controller.signal }));
      expect(await filesIn(directory)).toEqual([]);
    }));

  test("changes nothing while its signal is not set", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const { signal } = new AbortController();
      const info = await store.write(metaAt(20), inPieces(PAYLOAD, 1000), { signal });
      expectBytes(await bytesOf(info), await encodeToBuffer(headerAt(20), PAYLOAD));
    }));
});

describe("publishing a snapshot", () => {
  test("is allowed for an older one, and the newest stays the newest", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const newest = await store.write(metaAt(20), inPieces(PAYLOAD));
      await store.write(metaAt(10), inPieces(PAYLOAD));
      await store.write(metaAt(15), inPieces(PAYLOAD));
      expect(store.newest()).toBe(newest);
      expect(indexesOf(store.list())).toEqual([20, 15, 10]);
    }));

  test("returns the present one when it is the same again", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const first = await store.write(metaAt(20), inPieces(PAYLOAD));
      expect(await store.write(metaAt(20), inPieces(PAYLOAD, 99))).toBe(first);
      expect(store.list()).toEqual([first]);
      expect(await filesIn(directory)).toHaveLength(1);
    }));

  test("is refused for another state under the same index and term, and the present one stays", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const first = await store.write(metaAt(20), inPieces(PAYLOAD));
      const error = await failure("CORRUPT", () => store.write(metaAt(20), inPieces(patterned(1000, 2))));
      expect(error.text).toContain("not the same function of the log");
      expect(store.list()).toEqual([first]);
      expect(await filesIn(directory)).toHaveLength(1);
      await store.verify(first);
    }));

  test("is BUSY for a second writer of one that is being written, and not afterwards", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const writing = store.write(metaAt(20), inPieces(PAYLOAD));
      await failure("BUSY", () => store.write(metaAt(20), inPieces(PAYLOAD)));
      const info = await writing;
      expect(await store.write(metaAt(20), inPieces(PAYLOAD))).toBe(info);
    }));

  test("works for several at once", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      await Promise.all([5, 3, 9, 1].map((index) => store.write(metaAt(index), inPieces(PAYLOAD))));
      expect(indexesOf(store.list())).toEqual([9, 5, 3, 1]);
      for (const info of store.list()) await store.verify(info);
    }));
});
