import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EntrySchema, EntryType, HardStateSchema } from "../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../src/base/limits.js";
import {
  decodeEntry,
  decodeHardState,
  encodedEntryBytes,
  encodeEntry,
  encodeHardState,
} from "../../../src/encoding/entry.js";
import type { Entry } from "../../../src/raft/types.js";
import { decodeTrim, encodeTrim } from "../../../src/storage/wal/batch.js";
import { RECORD_HEADER_BYTES } from "../../../src/storage/wal/record.js";
import { expectError } from "./support.js";

const place = { position: 512, synced: 512, seed: 1 };

const typeNumbers = {
  command: EntryType.COMMAND,
  "no-op": EntryType.NO_OP,
  configuration: EntryType.CONFIGURATION,
} as const;

// Numbers of every length of encoding, not only small ones.
const count = fc.oneof(
  fc.integer({ min: 0, max: limits.indexMax }),
  fc
    .integer({ min: 0, max: 47 })
    .chain((bits) => fc.integer({ min: -1, max: 1 }).map((by) => Math.max(0, 2 ** bits + by))),
);
const entries: fc.Arbitrary<Entry> = fc.record({
  index: count.map((value) => Math.max(1, value)),
  term: count,
  type: fc.constantFrom("command", "no-op", "configuration"),
  data: fc.oneof(
    fc.uint8Array(),
    fc.uint8Array({ minLength: 126, maxLength: 130 }),
    fc.constant(new Uint8Array(20_000)),
  ),
});

function encoded(entry: Entry): Uint8Array {
  const buffer = new Uint8Array(encodedEntryBytes(entry));
  expect(encodeEntry(entry, buffer, 0)).toBe(buffer.byteLength);
  return buffer;
}

describe("the entries of the log file", () => {
  test("have the bytes that protobuf-es writes", () => {
    fc.assert(
      fc.property(entries, (entry) => {
        const message = create(EntrySchema, {
          index: BigInt(entry.index),
          term: BigInt(entry.term),
          type: typeNumbers[entry.type],
          data: entry.data,
        });
        expect(Buffer.compare(encoded(entry), toBinary(EntrySchema, message))).toBe(0);
      }),
      { numRuns: 500 },
    );
  });

  test("are decoded to the encoded ones, and share the buffer's memory", () => {
    fc.assert(
      fc.property(entries, (entry) => {
        const bytes = encoded(entry);
        const decoded = decodeEntry(bytes);
        expect({ ...decoded, data: undefined }).toEqual({ ...entry, data: undefined });
        expect(Buffer.compare(decoded.data, entry.data)).toBe(0);
        expect(decoded.data.buffer).toBe(bytes.buffer);
      }),
      { numRuns: 300 },
    );
  });

  test("are refused when they are cut short or of an unknown kind", async () => {
    const bytes = encoded({ index: 300, term: 2, type: "command", data: new Uint8Array(5) });
    for (const end of [0, 2, bytes.byteLength - 1]) {
      await expectError(
        Promise.resolve().then(() => decodeEntry(bytes.subarray(0, end))),
        "CORRUPT",
      );
    }
    const later = Uint8Array.from([...bytes, 0x28, 1]);
    await expectError(
      Promise.resolve().then(() => decodeEntry(later)),
      "CORRUPT",
      "no field with tag 40",
    );
  });
});

test("terms and indexes above their bounds are refused (T6)", async () => {
  const entry = (index: number, term: number) => encoded({ index, term, type: "no-op", data: new Uint8Array() });
  const decodings = [
    () => decodeEntry(entry(limits.indexMax + 1, 1)),
    () => decodeEntry(entry(1, limits.termMax + 1)),
    () => decodeHardState(encodeHardState({ term: 2 ** 53 - 1, vote: undefined, commit: 0 })),
    () => decodeHardState(encodeHardState({ term: 1, vote: undefined, commit: 2 ** 53 - 1 })),
    () => decodeTrim(encodeTrim({ index: 2 ** 53 - 1, term: 1 }, place).subarray(RECORD_HEADER_BYTES)),
  ];
  for (const decode of decodings) {
    const decoding = Promise.resolve().then((): unknown => decode());
    await expectError(decoding, "CORRUPT", "281474976710656 (");
  }
  expect(decodeEntry(entry(limits.indexMax, limits.termMax))).toMatchObject({ index: limits.indexMax });
});

test("hard states have the bytes that protobuf-es writes, and are decoded to the encoded ones", () => {
  const votes = fc.option(fc.string({ minLength: 1, maxLength: 64, unit: "grapheme" }), { nil: undefined });
  fc.assert(
    fc.property(fc.record({ term: count, vote: votes, commit: count }), (state) => {
      const { term, vote = "", commit } = state;
      const bytes = encodeHardState(state);
      const message = create(HardStateSchema, { term: BigInt(term), vote, commit: BigInt(commit) });
      expect(Buffer.compare(bytes, toBinary(HardStateSchema, message))).toBe(0);
      expect(decodeHardState(bytes)).toEqual(state);
      expect(fromBinary(HardStateSchema, bytes).vote).toBe(vote);
    }),
    { numRuns: 300 },
  );
});
