import { crc32 } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { InstallSnapshotRequestSchema } from "../../gen/cairn/v1/raft_pb.js";
import { encodeChunk } from "../../src/peers/install/chunk_codec.js";

const anyNumber = fc.oneof(fc.nat(300), fc.nat(), fc.maxSafeNat(), fc.constant(Number.MAX_SAFE_INTEGER));
/** CRC-32 of these is 0, which protobuf leaves out. */
const NO_CRC = Buffer.from("9d0ad96d", "hex");

test("some chunk data has the checksum 0", () => expect(crc32(NO_CRC)).toBe(0));

test("a chunk has the bytes that protobuf-es would write", () => {
  const anyChunk = fc.record({
    leaderTerm: anyNumber,
    offset: anyNumber,
    data: fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.constant(new Uint8Array(256 * 1024).fill(7)),
      fc.constant(NO_CRC),
    ),
    fileBytes: fc.option(fc.nat(1024 * 1024), { nil: undefined }),
  });
  fc.assert(
    fc.property(anyChunk, ({ leaderTerm, offset, data, fileBytes }) => {
      const value = {
        term: BigInt(leaderTerm),
        offset: BigInt(offset),
        crc32: crc32(data),
        data,
        fileBytes: fileBytes ?? 0,
      };
      const message = create(InstallSnapshotRequestSchema, { message: { case: "chunk", value } });
      const chunk = { kind: "chunk", leaderTerm, offset, data, ...(fileBytes !== undefined && { fileBytes }) } as const;
      const expected = toBinary(InstallSnapshotRequestSchema, message);
      for (const [spareBytes, isUsed] of [
        [-1, false],
        [0, true],
        [1000, true],
      ] as const) {
        const memory = Buffer.alloc(expected.byteLength + spareBytes, 0xff);
        const encoded = encodeChunk(chunk, memory);
        expect(encoded.equals(expected)).toBe(true);
        expect(encoded.buffer === memory.buffer).toBe(isUsed);
      }
    }),
  );
});
