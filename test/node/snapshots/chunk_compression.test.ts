import { deflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { deflateChunk, inflateChunk } from "../../../src/node/snapshots/chunk_compression.js";
import { failure } from "../../support/conditions.js";
import { patterned } from "../../support/snapshots/snapshot_files.js";

const TEXT = Buffer.from("a value like many others, ".repeat(1_000));

test("a chunk is decompressed to what it was, and is shorter in transit", async () => {
  const compressed = await deflateChunk(TEXT);
  expect(compressed!.byteLength).toBeLessThan(TEXT.byteLength / 10);
  expect(Buffer.from(await inflateChunk(compressed!, TEXT.byteLength))).toEqual(TEXT);
});

test("a chunk that does not shrink is sent uncompressed", async () => {
  expect(await deflateChunk(patterned(10_000))).toBeUndefined();
  expect(await deflateChunk(Buffer.of(1))).toBeUndefined();
});

test("a chunk that holds more than it declares is refused before it takes the memory", async () => {
  // 1 MiB of these bytes would become a GiB.
  const bomb = deflateRawSync(Buffer.alloc(256 * limits.transferChunkBytes), { level: 9 });
  const before = process.memoryUsage().arrayBuffers + process.memoryUsage().external;
  await failure("INVALID_ARGUMENT", inflateChunk(bomb, limits.transferChunkBytes), "holds more bytes");
  const grown = process.memoryUsage().arrayBuffers + process.memoryUsage().external - before;
  expect(grown).toBeLessThan(8 * limits.transferChunkBytes);
  await failure("INVALID_ARGUMENT", inflateChunk(deflateRawSync(TEXT), TEXT.byteLength - 1), "holds more bytes");
  await failure("INVALID_ARGUMENT", inflateChunk(deflateRawSync(TEXT), TEXT.byteLength + 1), "expected 26001");
});

test("bytes that are no compressed chunk are CORRUPT", async () => {
  const compressed = deflateRawSync(TEXT);
  await failure("CORRUPT", inflateChunk(patterned(500), 500));
  await failure("CORRUPT", inflateChunk(compressed.subarray(0, -5), TEXT.byteLength));
  await failure("CORRUPT", inflateChunk(Buffer.concat([compressed, Buffer.of(1)]), TEXT.byteLength), "behind the end");
});
