import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import type { SnapshotOffer } from "../../../src/storage/snapshots/snapshot_info.js";
import {
  bytesOf,
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
  receiveAll,
} from "../../support/snapshots/snapshot_files.js";

const PAYLOAD = patterned(limits.snapshotChunkBytes + 1000);

describe("receiving a snapshot", () => {
  test.each([1000, 65_536, 1_000_000])(
    "publishes the sender's file when it comes in pieces of %i bytes",
    (pieceBytes) =>
      inDirectory(async (directory) => {
        const store = await openStore(directory);
        const { file, offer } = await offered(20, PAYLOAD);
        const info = await receiveAll(store, offer, file, pieceBytes);
        expectBytes(await bytesOf(info), file);
        expect(info).toMatchObject({ ...metaAt(20), payloadBytes: PAYLOAD.byteLength, fileBytes: file.byteLength });
        expect(store.list()).toEqual([info]);
        expect((await openStore(directory)).list()).toEqual([info]);
      }),
  );

  test("from another store gives the same file by readFile", () =>
    inDirectory(async (directory) => {
      const sender = await openStore(`${directory}/a`);
      const receiver = await openStore(`${directory}/b`);
      const sent = await sender.write(metaAt(20), inPieces(PAYLOAD));
      const transfer = await receiver.receive(sent);
      for await (const piece of sender.readFile(sent, 0, 10_000)) await transfer.write(transfer.offset, piece);
      const info = await (await transfer.finish()).publish();
      expect(info).toEqual({ ...sent, path: info.path });
      expectBytes(await bytesOf(info), await bytesOf(sent));
    }));

  test("stages it under a part name with index, term and digest, and publishing makes it durable, then visible", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      const { file, offer } = await offered(20, PAYLOAD);
      fs.calls.length = 0;
      const receiver = await store.receive(offer);
      const digest = Buffer.from(offer.sha256).toString("hex").slice(0, 8);
      expect(await filesIn(directory)).toEqual([`0000000000000020-0000000000000003-${digest}.part`]);
      await receiver.write(0, file);
      const staged = await receiver.finish();
      expect(staged.meta).toMatchObject(metaAt(20));
      expect(fs.calls).toEqual(["exists", "open create part", "syncDirectory", "write", "size", "datasync", "close"]);
      expect(store.list()).toEqual([]);
      const info = await staged.publish();
      expect(fs.calls.slice(7)).toEqual(["rename part snap", "syncDirectory"]);
      expect(store.list()).toEqual([info]);
      expect(info).toEqual(staged.info);
      expect(await staged.publish()).toBe(info);
      await staged.discard();
      expect(await filesIn(directory)).toEqual(["0000000000000020-0000000000000003.snap"]);
    }));

  test("can be undone by discarding a staged one", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const { file, offer } = await offered(20, PAYLOAD);
      const receiver = await store.receive(offer);
      await receiver.write(0, file);
      const staged = await receiver.finish();
      await staged.discard();
      expect(await filesIn(directory)).toEqual([]);
      await failure("FAILED_PRECONDITION", () => staged.publish());
      await receiveAll(store, offer, file);
      expect(store.newest()?.index).toBe(20);
    }));

  test("carries out overlapping calls in order", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const { file, offer } = await offered(20, PAYLOAD);
      const receiver = await store.receive(offer);
      const half = file.byteLength >> 1;
      const [, , staged] = await Promise.all([
        receiver.write(0, file.subarray(0, half)),
        receiver.write(half, file.subarray(half)),
        receiver.finish(),
      ]);
      expectBytes(await bytesOf(await staged.publish()), file);
    }));

  test("that is older than the newest leaves the newest as it is", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const newest = await store.write(metaAt(30), inPieces(PAYLOAD));
      const { file, offer } = await offered(20, PAYLOAD);
      await receiveAll(store, offer, file);
      expect(store.newest()).toBe(newest);
    }));

  test("that is present returns the present one", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const existing = await store.write(metaAt(20), inPieces(PAYLOAD));
      const { file, offer } = await offered(20, PAYLOAD);
      expect(await receiveAll(store, offer, file)).toBe(existing);
      expect(await filesIn(directory)).toHaveLength(1);
    }));

  test("that is being received already is BUSY until the first transfer is given up", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const { file, offer } = await offered(20, PAYLOAD);
      const first = await store.receive(offer);
      await failure("BUSY", () => store.receive(offer));
      await first.abort();
      await receiveAll(store, offer, file);
    }));
});

describe("a refused transfer leaves no file and no snapshot", () => {
  /** Sends a file as another one was offered, all in one piece; returns what it fails with. */
  async function refused(code: CairnError["code"], file: Uint8Array, offer: SnapshotOffer): Promise<string> {
    let text = "";
    await inDirectory(async (directory) => {
      const store = await openStore(directory);
      const error = await failure(code, async () => {
        const receiver = await store.receive(offer);
        await receiver.write(0, file);
        await receiver.finish();
      });
      text = error.text;
      expect(await filesIn(directory)).toEqual([]);
      expect(store.list()).toEqual([]);
    });
    return text;
  }

  test.each([
    ["index 0", { index: 0 }, "index is 0, expected 1"],
    ["term 0", { term: 0 }, "term is 0, expected 1"],
    ["an impossible size", { fileBytes: 76 }, "fileBytes is 76, expected 77"],
    ["an unsafe size", { fileBytes: 2 ** 53 }, "fileBytes is 9007199254740992"],
    ["a short digest", { sha256: new Uint8Array(31) }, "sha256 has 31 bytes, expected 32"],
  ])("for an offer with %s", async (_, wrong, text) => {
    const { file, offer } = await offered(20, PAYLOAD);
    expect(await refused("INVALID_ARGUMENT", file, { ...offer, ...wrong })).toContain(text);
  });

  test("for another cluster", async () => {
    const { file, offer } = await offered(20, PAYLOAD, headerAt(20, { clusterId: "cluster-2" }));
    expect(await refused("WRONG_CLUSTER", file, offer)).toContain("is of cluster cluster-2, expected cluster-1");
  });

  test("for another index", async () => {
    const { file, offer } = await offered(20, PAYLOAD);
    expect(await refused("INVALID_ARGUMENT", file, { ...offer, index: 21 })).toContain(
      "offered at index 21 of term 3 is one at index 20 of term 3",
    );
  });

  test("for another term", async () => {
    const { file, offer } = await offered(20, PAYLOAD);
    expect(await refused("INVALID_ARGUMENT", file, { ...offer, term: 4 })).toContain("is one at index 20 of term 3");
  });

  test("for another digest than offered", async () => {
    const { file, offer } = await offered(20, PAYLOAD);
    const other = (await offered(20, patterned(PAYLOAD.byteLength, 2))).offer;
    expect(await refused("CORRUPT", file, { ...offer, sha256: other.sha256 })).toContain(
      `expected ${Buffer.from(other.sha256).toString("hex")} as offered`,
    );
  });

  test("for fewer bytes than offered, in a file that is complete", async () => {
    const { file, offer } = await offered(20, PAYLOAD);
    expect(await refused("INVALID_ARGUMENT", file, { ...offer, fileBytes: offer.fileBytes + 1 })).toContain(
      `has ${file.byteLength} bytes, expected ${file.byteLength + 1} as offered`,
    );
  });

  test("for more bytes than offered", async () => {
    const { file, offer } = await offered(20, PAYLOAD);
    expect(await refused("INVALID_ARGUMENT", file, { ...offer, fileBytes: offer.fileBytes - 1 })).toContain(
      `bytes up to ${file.byteLength}, expected ${file.byteLength - 1} in all`,
    );
  });

  test("for an end before the trailer", async () => {
    const { file, offer } = await offered(20, PAYLOAD);
    expect(await refused("CORRUPT", file.subarray(0, -1), offer)).toContain("expected 1 more bytes of the trailer");
  });

  test("for a bad chunk, before its bytes reach the disk", async () => {
    const { file, offer } = await offered(20, PAYLOAD);
    const damaged = Buffer.from(file);
    damaged[1000]! ^= 1;
    expect(await refused("CORRUPT", damaged, offer)).toContain("chunk 0 has CRC32");
  });

  test.each([-1, 1, 1_000_000])("for bytes that come out of order: %i after their place", (off) =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const { file, offer } = await offered(20, PAYLOAD);
      const receiver = await store.receive(offer);
      await receiver.write(0, file.subarray(0, 1000));
      expect(receiver.offset).toBe(1000);
      const wrong = () => receiver.write(1000 + off, file.subarray(1000, 2000));
      const error = await failure("INVALID_ARGUMENT", wrong);
      expect(error.text).toContain(`bytes at offset ${1000 + off}, expected offset 1000`);
      expect(await filesIn(directory)).toEqual([]);
      // The transfer has ended: the right bytes come too late, and so does the end.
      expect(await failure("INVALID_ARGUMENT", () => receiver.write(1000, file.subarray(1000)))).toBe(error);
      expect(await failure("INVALID_ARGUMENT", () => receiver.finish())).toBe(error);
      await receiver.abort();
      expect(await filesIn(directory)).toEqual([]);
    }),
  );

  test("that is given up before a chunk is whole", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const { file, offer } = await offered(20, PAYLOAD);
      const receiver = await store.receive(offer);
      const writing = receiver.write(0, file.subarray(0, 1000));
      await receiver.abort();
      await writing;
      expect(await filesIn(directory)).toEqual([]);
      await failure("CANCELLED", () => receiver.finish());
    }));

  test("for another state under an index and term that the store has", () =>
    inDirectory(async (directory) => {
      const store = await openStore(directory);
      const existing = await store.write(metaAt(20), inPieces(PAYLOAD));
      const { file, offer } = await offered(20, patterned(1000, 2));
      await failure("CORRUPT", () => receiveAll(store, offer, file));
      expect(store.list()).toEqual([existing]);
      expect(await filesIn(directory)).toHaveLength(1);
    }));

  test("for a failure of any call of the file system", () =>
    inDirectory(async (directory) => {
      const fs = new RecordingFileSystem();
      const store = await openStore(directory, fs);
      const { file, offer } = await offered(20, patterned(3 * limits.snapshotWriteBytes));
      fs.calls.length = 0;
      await receiveAll(store, offer, file);
      const calls = [...fs.calls];
      expect(calls.filter((call) => call === "write")).toHaveLength(4);
      const other = await offered(30, patterned(3 * limits.snapshotWriteBytes));
      for (const [number, call] of calls.entries()) {
        fs.calls.length = 0;
        fs.failAt = number;
        fs.failWith = new CairnError("DISK_FULL", call);
        await failure("DISK_FULL", () => receiveAll(store, other.offer, other.file));
        fs.failAt = undefined;
        expect(store.list().map((info) => info.index)).toEqual([20]);
        const isPublished = call === "syncDirectory" && number > 2;
        expect(await filesIn(directory), call).toHaveLength(isPublished ? 2 : 1);
      }
    }));
});
