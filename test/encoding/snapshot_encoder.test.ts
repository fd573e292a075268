import { setTimeout } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { encodeSnapshot, measureSnapshot } from "../../src/encoding/snapshot_encoder.js";
import type { SnapshotHeader } from "../../src/encoding/snapshot_header.js";
import { SnapshotParser } from "../../src/encoding/snapshot_parser.js";
import {
  collect,
  encodeToBuffer,
  failure,
  headerAt,
  inPieces,
  metaAt,
  patterned,
} from "../support/snapshots/snapshot_files.js";

/** Put together by another program from the format's description alone. */
const GOLDEN_HEADER: SnapshotHeader = {
  clusterId: "c",
  meta: { index: 5, term: 2, membership: { index: 3, members: [{ id: "n1", address: "h:1", role: "voter" }] } },
  chunkBytes: 4,
};
const GOLDEN_FILE = [
  "434149524e534e50", // CAIRNSNP
  "010000001a00000084c1a69d", // version 1, header of 26 bytes, its CRC32
  "0a0163100518022" + "20d0a0b0a026e311203683a31180128033004",
  "0400000011cd82ed61626364", // "abcd"
  "02000000704982fd6566", // "ef"
  "000000000fa20e13", // end mark, CRC32 of what follows
  "02000000000000000600000000000000", // 2 chunks, 6 bytes
  "7ffd810628f3cc37d702725b61bbce7537107c9db2aa58bf6b3161fc04341e46",
].join("");

describe("the bytes of a snapshot file", () => {
  test("match the format", async () => {
    const file = await encodeToBuffer(GOLDEN_HEADER, Buffer.from("abcdef"));
    expect(file.toString("hex")).toBe(GOLDEN_FILE);
  });

  test("do not depend on the pieces that the payload comes in", async () => {
    const header = headerAt(9, { chunkBytes: 100 });
    const payload = patterned(1234);
    const whole = await encodeToBuffer(header, payload);
    for (const pieceBytes of [1, 7, 99, 100, 101, 1000]) {
      expect(await encodeToBuffer(header, payload, pieceBytes)).toEqual(whole);
    }
  });

  test("do not depend on empty pieces", async () => {
    const header = headerAt(9, { chunkBytes: 4 });
    async function* withEmptyPieces() {
      for (const text of ["", "ab", "", "cdef", ""]) yield Buffer.from(text);
    }
    expect(await collect(encodeSnapshot(header, withEmptyPieces()))).toEqual(
      await encodeToBuffer(header, Buffer.from("abcdef")),
    );
  });

  test.each([
    ["of no bytes", 0, 0],
    ["one byte short of a chunk", 15, 1],
    ["of exactly one chunk", 16, 1],
    ["one byte over a chunk", 17, 2],
    ["of exactly two chunks", 32, 2],
  ])("hold a payload %s", async (_, payloadBytes, chunkCount) => {
    const header = headerAt(7, { chunkBytes: 16 });
    const payload = patterned(payloadBytes);
    const file = await encodeToBuffer(header, payload);
    const parser = new SnapshotParser("file");
    const chunks = parser.push(file).map((chunk) => Buffer.from(chunk));
    expect(chunks).toHaveLength(chunkCount);
    expect(Buffer.concat(chunks)).toEqual(payload);
    expect(parser.finish()).toMatchObject({ payloadBytes, fileBytes: file.byteLength });
    expect(parser.header).toEqual(header);
  });
});

test("any header and payload are parsed as they were encoded, whatever the pieces on both sides", async () => {
  const member = fc.record({
    id: fc.stringMatching(/^[A-Za-z0-9._-]{1,12}$/),
    address: fc.string({ maxLength: 20 }),
    role: fc.constantFrom("voter", "learner"),
  });
  const members = fc
    .uniqueArray(member, { selector: ({ id }) => id, minLength: 1, maxLength: 5 })
    .filter((list) => list.some(({ role }) => role === "voter"))
    .map((list) => list.sort((a, b) => (a.id < b.id ? -1 : 1)));
  const header = fc
    .record({
      clusterId: fc.stringMatching(/^[A-Za-z0-9._-]{1,64}$/),
      index: fc.integer({ min: 1, max: limits.indexMax }),
      term: fc.integer({ min: 1, max: limits.termMax }),
      members,
      chunkBytes: fc.integer({ min: 1, max: 40 }),
    })
    .map(({ clusterId, index, term, members: list, chunkBytes }) => ({
      clusterId,
      meta: { index, term, membership: { index: Math.floor(index / 2), members: list } },
      chunkBytes,
    }));
  const pieceBytes = fc.integer({ min: 1, max: 60 });
  await fc.assert(
    fc.asyncProperty(
      header,
      fc.uint8Array({ maxLength: 200 }),
      pieceBytes,
      pieceBytes,
      async (written, payload, a, b) => {
        const file = await encodeToBuffer(written, payload, a);
        const parser = new SnapshotParser("file");
        const chunks: Buffer[] = [];
        for await (const piece of inPieces(file, b))
          chunks.push(...parser.push(piece).map((chunk) => Buffer.from(chunk)));
        const measure = parser.finish();
        expect(parser.header).toEqual(written);
        expect(Buffer.concat(chunks)).toEqual(Buffer.from(payload));
        expect(measure).toEqual(await measureSnapshot(written, inPieces(payload, b)));
        expect(measure.fileBytes).toBe(file.byteLength);
      },
    ),
    { numRuns: 200 },
  );
});

test("measuring a snapshot yields the event loop between two chunks", async () => {
  let measured = false;
  let turns = 0;
  const counting = (async () => {
    while (!measured) {
      await setTimeout(0);
      turns += 1;
    }
  })();
  await measureSnapshot(headerAt(1, { chunkBytes: 1024 }), inPieces(patterned(1024 * 1024)));
  measured = true;
  await counting;
  expect(turns).toBeGreaterThan(1);
});

describe("a header that no reader would accept is refused before the payload is read", () => {
  const payloadMustRest = {
    [Symbol.asyncIterator]() {
      throw new Error("the payload was touched");
    },
  } as unknown as AsyncIterable<Uint8Array>;
  const { membership } = metaAt(5);
  const voter = (id: string) => ({ id, address: "", role: "voter" }) as const;

  test.each<[string, SnapshotHeader, string]>([
    ["no cluster", headerAt(5, { clusterId: "" }), 'cluster id ""'],
    ["a cluster id with a space", headerAt(5, { clusterId: "a b" }), 'cluster id "a b"'],
    ["index 0", headerAt(5, { meta: { ...metaAt(5), index: 0 } }), "index 0"],
    ["an unsafe index", headerAt(5, { meta: { ...metaAt(5), index: 2 ** 53 } }), "index 9007199254740992"],
    ["an index above indexMax", headerAt(5, { meta: metaAt(limits.indexMax + 1) }), "(indexMax)"],
    ["a term above termMax", headerAt(5, { meta: metaAt(5, limits.termMax + 1) }), "(termMax)"],
    [
      "no members",
      headerAt(5, { meta: { ...metaAt(5), membership: { index: 3, members: [] } } }),
      "the members have no voter among them",
    ],
    [
      "an address over its limit",
      headerAt(5, {
        meta: {
          ...metaAt(5),
          membership: {
            index: 0,
            members: [{ ...voter("n1"), address: "h".repeat(limits.addressCharacters + 1) }],
          },
        },
      }),
      "addressCharacters",
    ],
    ["term 0", headerAt(5, { meta: metaAt(5, 0) }), "term 0"],
    ["a fraction", headerAt(5, { meta: metaAt(5, 1.5) }), "term 1.5"],
    [
      "a membership from after the snapshot",
      headerAt(5, { meta: { ...metaAt(5), membership: { ...membership, index: 6 } } }),
      "membership index 6",
    ],
    ["chunks of 0 bytes", headerAt(5, { chunkBytes: 0 }), "chunk size 0"],
    ["chunks over the limit", headerAt(5, { chunkBytes: limits.snapshotChunkBytesMax + 1 }), "snapshotChunkBytesMax"],
    [
      "members out of order",
      headerAt(5, { meta: { ...metaAt(5), membership: { index: 0, members: [voter("n2"), voter("n1")] } } }),
      "member n1 comes after n2",
    ],
    [
      "a member twice",
      headerAt(5, { meta: { ...metaAt(5), membership: { index: 0, members: [voter("n1"), voter("n1")] } } }),
      "member n1 is listed twice",
    ],
    [
      "a member without id",
      headerAt(5, { meta: { ...metaAt(5), membership: { index: 0, members: [voter("")] } } }),
      'member id ""',
    ],
  ])("with %s", async (_, header, text) => {
    const error = await failure("INVALID_ARGUMENT", () => collect(encodeSnapshot(header, payloadMustRest)));
    expect(error.text).toContain(text);
  });

  test("but not for the largest membership", async () => {
    const members = Array.from({ length: limits.members }, (_, at) => ({
      id: String(at).padStart(limits.idCharacters, "0"),
      address: "h".repeat(limits.addressCharacters),
      role: "voter" as const,
    }));
    const header = headerAt(5, { meta: { ...metaAt(5), membership: { index: 0, members } } });
    const parser = new SnapshotParser("the file");
    parser.push(await encodeToBuffer(header, Buffer.from("payload")));
    parser.finish();
    expect(parser.header).toEqual(header);
  });
});
