import { isDeepStrictEqual } from "node:util";
import { MembershipSchema } from "../../../../gen/cairn/v1/storage_pb.js";
import {
  decodeEntry,
  decodeHardState,
  encodedEntryBytes,
  encodeEntry,
  encodeHardState,
} from "../../../../src/encoding/entry.js";
import { membershipCodec } from "../../../../src/encoding/membership.js";
import { encodeSnapshot } from "../../../../src/encoding/snapshot_encoder.js";
import { SnapshotParser } from "../../../../src/encoding/snapshot_parser.js";
import { checkKeyValuePayload } from "../../../../src/machine/kv/payload_check.js";
import type { Entry, HardState, SnapshotMeta } from "../../../../src/raft/types.js";
import { parseSnapshotFileName } from "../../../../src/storage/snapshots/file_names.js";
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  headerCrc,
  parseSegmentName,
} from "../../../../src/storage/wal/segment_header.js";
import type { Random } from "../../../support/random.js";
import { randomMessage } from "../../generate/messages.js";
import { mutated, pieces } from "../../generate/mutations.js";
import { sealed } from "../../generate/sealed_snapshot.js";
import { anyBytes, anyNumber, anyText } from "../../generate/values.js";
import { expectThat } from "../../run/target.js";
import { payloadOfCommands } from "./commands.js";
import { type Decoder, expectAnyRefusal, unlessRefused } from "./decoder.js";

// The decoders of what lies on disks: entries, hard states, memberships, segments, snapshots.

const members = [
  { id: "n1", address: "127.0.0.1:7101", role: "voter", incarnation: "0123456789abcdef0123456789abcdef" },
  { id: "n2", address: "127.0.0.1:7102", role: "voter" },
  { id: "n3", address: "", role: "learner", wantsVote: true },
] as const;

const META: SnapshotMeta = { index: 40, term: 3, membership: { index: 2, members } };

function encodedEntry(random: Random): Buffer {
  const type = random.pick(["command", "no-op", "configuration"] as const);
  const entry: Entry = {
    index: random.whole(1, 2 ** 48),
    term: random.whole(0, 2 ** 48),
    type,
    data: anyBytes(random),
  };
  const bytes = Buffer.alloc(encodedEntryBytes(entry));
  encodeEntry(entry, bytes, 0);
  return bytes;
}

const entries: Decoder = {
  name: "entry",
  draw: (random) => changed(random, encodedEntry(random)),
  run(bytes) {
    const entry = unlessRefused(() => decodeEntry(bytes));
    if (entry === undefined) return;
    const again = Buffer.alloc(encodedEntryBytes(entry));
    encodeEntry(entry, again, 0);
    expectThat(isDeepStrictEqual(plain(decodeEntry(again)), plain(entry)), () => "an entry changes when it is encoded");
  },
};

function plain(entry: Entry): object {
  return { ...entry, data: Buffer.from(entry.data).toString("hex") };
}

const hardStates: Decoder = {
  name: "hard state",
  draw(random) {
    const vote = random.oneIn(2) ? `n1/${"ab".repeat(16)}` : undefined;
    return changed(random, encodeHardState({ term: random.whole(0, 2 ** 48), vote, commit: random.whole(0, 2 ** 48) }));
  },
  run(bytes) {
    const state = unlessRefused(() => decodeHardState(bytes));
    if (state === undefined) return;
    const again: HardState = decodeHardState(encodeHardState(state));
    const same =
      again.term === state.term && again.commit === state.commit && (again.vote ?? "") === (state.vote ?? "");
    expectThat(same, () => "a hard state changes when it is encoded");
  },
};

const memberships: Decoder = {
  name: "membership",
  draw: (random) =>
    random.oneIn(3)
      ? randomMessage(random, MembershipSchema, { wildness: random.pick([0, 0.05, 0.5]) })
      : changed(random, Buffer.from(membershipCodec.encode(members))),
  run(bytes) {
    const decoded = unlessRefused(() => membershipCodec.decode(bytes), expectAnyRefusal);
    if (decoded === undefined) return;
    const again = membershipCodec.decode(membershipCodec.encode(decoded));
    expectThat(isDeepStrictEqual(again, decoded), () => "a membership changes when it is encoded");
  },
};

const segmentHeaders: Decoder = {
  name: "segment header",
  draw(random) {
    const whole = encodeSegmentHeader({
      sequence: random.whole(1, 1_000),
      firstIndex: random.whole(1, 1_000),
      previousTerm: 3,
      boundary: { index: 7, term: 2 },
      startsLog: random.oneIn(2),
      hardState: { term: 3, vote: "n1", commit: 9 },
    });
    const bytes = changed(random, whole);
    // With a checksum that fits, the fields behind it are looked at.
    if (bytes.byteLength === 512 && random.oneIn(2)) bytes.writeUInt32LE(headerCrc(bytes), 12);
    return bytes;
  },
  run: (bytes) => void unlessRefused(() => decodeSegmentHeader(Buffer.from(bytes), "a segment")),
};

const fileNames: Decoder = {
  name: "file name",
  draw: (random) =>
    random.oneIn(2) ? anyText(random) : mutated(random, Buffer.from("0000000007-0000000000081920.wal")),
  run(bytes) {
    const text = Buffer.from(bytes).toString("latin1");
    parseSnapshotFileName(text);
    parseSegmentName(text);
  },
};

/** A payload of the key-value machine with keys, sessions and leases. */
const PAYLOAD = await payloadOfCommands(META);

const payloads: Decoder = {
  name: "payload",
  draw: (random) => changed(random, PAYLOAD),
  run(bytes, random) {
    unlessRefused(() => {
      const decoder = checkKeyValuePayload(META);
      for (const piece of pieces(random, bytes)) decoder.push(piece);
      decoder.finish();
    });
  },
};

/** A snapshot file in small chunks, of a cluster that is none of those that are fuzzed. */
export const SNAPSHOT_FILE = await wholeFile();

async function wholeFile(): Promise<Buffer> {
  const parts: Buffer[] = [];
  const header = { clusterId: "cluster-1", meta: META, chunkBytes: 64 };
  const file = encodeSnapshot(
    header,
    (async function* () {
      yield PAYLOAD;
    })(),
  );
  for await (const part of file) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

const snapshotFiles: Decoder = {
  name: "snapshot file",
  draw(random) {
    const bytes = changed(random, SNAPSHOT_FILE);
    return random.oneIn(2) ? sealed(bytes) : bytes;
  },
  run(bytes, random) {
    const isAsWritten = SNAPSHOT_FILE.equals(bytes);
    const measure = unlessRefused(() => {
      const check = checkKeyValuePayload(META);
      const parser = new SnapshotParser("a snapshot file", (chunk) => check.push(chunk));
      for (const piece of pieces(random, bytes)) parser.push(piece);
      const found = parser.finish();
      check.finish();
      return found;
    });
    if (isAsWritten) expectThat(measure !== undefined, () => "an unchanged snapshot file is refused");
    if (measure === undefined) return;
    expectThat(measure.fileBytes === bytes.byteLength, () => "a file is accepted with a size that it has not");
  },
};

/** The bytes as they are, changed, or others. */
function changed(random: Random, bytes: Uint8Array): Buffer {
  if (random.oneIn(10)) return Buffer.from(bytes);
  if (random.oneIn(20)) return anyBytes(random);
  const result = mutated(random, bytes);
  if (random.oneIn(8) && result.byteLength >= 8) {
    result.writeBigUInt64LE(anyNumber(random), random.whole(0, result.byteLength - 8));
  }
  return result;
}

export const storageDecoders: readonly Decoder[] = [
  entries,
  hardStates,
  memberships,
  segmentHeaders,
  fileNames,
  payloads,
  snapshotFiles,
];
