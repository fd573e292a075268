import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, test } from "vitest";
import { SnapshotHeaderSchema } from "../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../src/base/limits.js";
import { SnapshotParser } from "../../src/encoding/snapshot_parser.js";
import {
  CLUSTER,
  encodeToBuffer,
  failure,
  headerAt,
  inPieces,
  patterned,
} from "../support/snapshots/snapshot_files.js";

const CHUNK = 16;
const PAYLOAD = patterned(3 * CHUNK + 5);
const HEADER = headerAt(12, { chunkBytes: CHUNK });
let file: Buffer;

beforeAll(async () => {
  file = await encodeToBuffer(HEADER, PAYLOAD);
});

function parse(bytes: Uint8Array): Buffer {
  const parser = new SnapshotParser("the file");
  const payload = Buffer.concat(parser.push(bytes));
  parser.finish();
  return payload;
}

describe("a snapshot that is parsed in pieces", () => {
  test.each([1, 2, 3, 7, 8, 15, 16, 17, 24, 40, 64])(
    "of %i bytes gives the same result as in one piece",
    async (pieceBytes) => {
      const parser = new SnapshotParser("the file");
      const payload: Buffer[] = [];
      // The pieces share one buffer that is overwritten: chunks must not be read from it later.
      for await (const piece of inPieces(file, pieceBytes)) {
        payload.push(...parser.push(piece).map((chunk) => Buffer.from(chunk)));
      }
      expect(Buffer.concat(payload)).toEqual(PAYLOAD);
      const whole = new SnapshotParser("the file");
      whole.push(file);
      expect(parser.finish()).toEqual(whole.finish());
      expect(parser.header).toEqual(HEADER);
    },
  );

  test("has its header parsed as soon as the header's last byte came", () => {
    const headerEnd = 20 + file.readUInt32LE(12);
    const parser = new SnapshotParser("the file");
    parser.push(file.subarray(0, headerEnd - 1));
    expect(parser.header).toBeUndefined();
    parser.push(file.subarray(headerEnd - 1, headerEnd));
    expect(parser.header).toEqual(HEADER);
    expect(parser.done).toBe(false);
  });

  test("keeps a chunk that spans pieces until the next one begins", () => {
    const firstChunk = 20 + file.readUInt32LE(12);
    const parser = new SnapshotParser("the file");
    parser.push(file.subarray(0, firstChunk + 8 + 3));
    const [chunk] = parser.push(file.subarray(firstChunk + 8 + 3, firstChunk + 8 + CHUNK + 8 + 5));
    expect(Buffer.from(chunk!)).toEqual(PAYLOAD.subarray(0, CHUNK));
  });
});

describe("damage of a snapshot file", () => {
  test("is refused for every flipped bit", () => {
    for (let bit = 0; bit < file.byteLength * 8; bit++) {
      const flipped = Buffer.from(file);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => parse(flipped), `bit ${bit}`).toThrowError(/^\[CORRUPT\] the file is damaged at offset \d+: /);
    }
  });

  test("is refused for every truncation, and the error says where the file ended", () => {
    for (let bytes = 0; bytes < file.byteLength; bytes++) {
      expect(() => parse(file.subarray(0, bytes)), `${bytes} bytes`).toThrowError(
        `[CORRUPT] the file is damaged at offset ${bytes}: the file ends here`,
      );
    }
  });

  test("is refused for bytes after the trailer, in the same piece or later", () => {
    const text = `[CORRUPT] the file is damaged at offset ${file.byteLength}: there are bytes after the trailer`;
    expect(() => parse(Buffer.concat([file, Buffer.alloc(1)]))).toThrowError(text);
    const parser = new SnapshotParser("the file");
    parser.push(file);
    parser.finish();
    expect(() => parser.push(Buffer.alloc(1))).toThrowError(text);
  });

  test("is reported with the chunk and its offset", async () => {
    const secondChunk = 20 + file.readUInt32LE(12) + (8 + CHUNK) + 8;
    const damaged = Buffer.from(file);
    damaged[secondChunk + 4]! ^= 1;
    const error = await failure("CORRUPT", () => parse(damaged));
    expect(error.text).toContain(`offset ${secondChunk}: chunk 1 has CRC32`);
  });

  test("keeps a damaged header from being returned", async () => {
    const damaged = Buffer.from(file);
    damaged[25]! ^= 1;
    const parser = new SnapshotParser("the file");
    const error = await failure("CORRUPT", () => parser.push(damaged));
    expect(error.text).toContain("offset 20: the header has CRC32");
    expect(parser.header).toBeUndefined();
  });

  test("makes all calls after the error fail", () => {
    const parser = new SnapshotParser("the file");
    const magic = /it starts with/;
    expect(() => parser.push(Buffer.alloc(20))).toThrowError(magic);
    expect(() => parser.push(file)).toThrowError(magic);
    expect(() => parser.finish()).toThrowError(magic);
  });
});

/** Files whose every checksum is right, and which are wrong all the same. */
describe("a snapshot file that was written wrong", () => {
  const chunk = (bytes: Uint8Array, length = bytes.byteLength) => Buffer.concat([words(length, crc32(bytes)), bytes]);
  const trailer = (before: Buffer, chunks: number, payloadBytes: number) => {
    const rest = Buffer.alloc(48);
    rest.writeBigUInt64LE(BigInt(chunks), 0);
    rest.writeBigUInt64LE(BigInt(payloadBytes), 8);
    createHash("sha256").update(before).digest().copy(rest, 16);
    return Buffer.concat([words(0, crc32(rest)), rest]);
  };
  const assemble = (header: Uint8Array, chunks: Buffer[], count: number, payloadBytes: number, version = 1) => {
    const preamble = Buffer.concat([Buffer.from("CAIRNSNP"), words(version, header.byteLength, crc32(header))]);
    const before = Buffer.concat([preamble, header, ...chunks]);
    return Buffer.concat([before, trailer(before, count, payloadBytes)]);
  };
  const full = patterned(CHUNK);
  const short = patterned(5);
  const header = (fields: object = {}) =>
    toBinary(
      SnapshotHeaderSchema,
      create(SnapshotHeaderSchema, {
        clusterId: CLUSTER,
        index: 4n,
        term: 2n,
        membership: { members: [{ id: "n1", role: 1 }] },
        chunkBytes: CHUNK,
        ...fields,
      }),
    );

  test("is accepted when the same parts are put together right", () => {
    expect(parse(assemble(header(), [chunk(full), chunk(short)], 2, CHUNK + 5))).toEqual(Buffer.concat([full, short]));
  });

  test.each<[string, () => Buffer, RegExp]>([
    ["version 2", () => assemble(header(), [], 0, 0, 2), /offset 8: format version 2, expected 1/],
    ["no header", () => assemble(Buffer.alloc(0), [], 0, 0), /offset 12: header length 0/],
    [
      "a header over the limit",
      () => assemble(Buffer.alloc(limits.snapshotHeaderBytes + 1), [], 0, 0),
      /offset 12: header length \d+, expected 1 to snapshotHeaderBytes/,
    ],
    ["a header that is no message", () => assemble(Buffer.alloc(3, 0xff), [], 0, 0), /offset 20: the header is no/],
    ["index 0", () => assemble(header({ index: 0n }), [], 0, 0), /offset 20: header: index 0/],
    ["an index above its bound", () => assemble(header({ index: 2n ** 48n + 1n }), [], 0, 0), /20: header: .*indexMax/],
    ["a term above its bound", () => assemble(header({ term: 2n ** 53n - 1n }), [], 0, 0), /20: header: .*termMax/],
    [
      "no members",
      () => assemble(header({ membership: {}, membershipIndex: 3n }), [], 0, 0),
      /20: header: the members have no voter/,
    ],
    ["an unsafe index", () => assemble(header({ index: 2n ** 53n }), [], 0, 0), /offset 20: header: index/],
    [
      "a member of unknown role",
      () => assemble(header({ membership: { members: [{ id: "n1", role: 0 }] } }), [], 0, 0),
      /offset 20: .*member n1 has the unknown role 0/,
    ],
    [
      "members out of order",
      () => {
        const members = ["n2", "n1"].map((id) => ({ id, role: 1 }));
        return assemble(header({ membership: { members } }), [], 0, 0);
      },
      /member n1 comes after n2/,
    ],
    ["chunks over the limit", () => assemble(header({ chunkBytes: 2 ** 21 }), [], 0, 0), /snapshotChunkBytesMax/],
    [
      "a long chunk",
      () => assemble(header(), [chunk(patterned(CHUNK + 1))], 1, CHUNK + 1),
      /has length 17, expected 1 to 16/,
    ],
    [
      "a short chunk in the middle",
      () => assemble(header(), [chunk(short), chunk(full)], 2, CHUNK + 5),
      /chunk 1 follows a short one/,
    ],
    ["a wrong count of chunks", () => assemble(header(), [chunk(full)], 2, CHUNK), /holds 1 chunks, expected 2/],
    ["a wrong payload size", () => assemble(header(), [chunk(full)], 1, 15), /holds 16 payload bytes, expected 15/],
    [
      "an unsafe payload size",
      () => {
        const bytes = assemble(header(), [], 0, 0);
        bytes.writeBigUInt64LE(2n ** 60n, bytes.byteLength - 40);
        bytes.writeUInt32LE(crc32(bytes.subarray(-48)), bytes.byteLength - 52);
        return bytes;
      },
      /payload size 1152921504606846976, expected 0 to 281474976710656 .countMax/,
    ],
    [
      "a digest of something else",
      () => {
        const bytes = assemble(header(), [chunk(full)], 1, CHUNK);
        bytes[bytes.byteLength - 1]! ^= 1;
        bytes.writeUInt32LE(crc32(bytes.subarray(-48)), bytes.byteLength - 52);
        return bytes;
      },
      /its SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}/,
    ],
  ])("is refused with %s", async (_, build, text) => {
    const error = await failure("CORRUPT", () => parse(build()));
    expect(error.text).toMatch(text);
  });

  test("is refused by its digest when two chunks with good CRC32s are swapped", async () => {
    const start = 20 + file.readUInt32LE(12);
    const size = 8 + CHUNK;
    const swapped = Buffer.from(file);
    file.copy(swapped, start, start + size, start + 2 * size);
    file.copy(swapped, start + size, start, start + size);
    const error = await failure("CORRUPT", () => parse(swapped));
    expect(error.text).toContain("its SHA-256 is");
  });
});

function words(...values: number[]): Buffer {
  const buffer = Buffer.alloc(4 * values.length);
  values.forEach((value, at) => {
    buffer.writeUInt32LE(value, 4 * at);
  });
  return buffer;
}
