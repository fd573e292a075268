import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { AppendEntriesRequestSchema, PeerHeaderSchema } from "../../gen/cairn/v1/raft_pb.js";
import { EntryType as EntryTypeMessage } from "../../gen/cairn/v1/storage_pb.js";
import { nameOf } from "../../src/base/ids.js";
import { type AppendFields, encodeAppend } from "../../src/peers/append/append_codec.js";
import type { Entry } from "../../src/raft/types.js";

const types = {
  command: EntryTypeMessage.COMMAND,
  "no-op": EntryTypeMessage.NO_OP,
  configuration: EntryTypeMessage.CONFIGURATION,
};

const anyNumber = fc.oneof(fc.nat(300), fc.nat(), fc.maxSafeNat(), fc.constant(Number.MAX_SAFE_INTEGER));
const anyEntry: fc.Arbitrary<Entry> = fc.record({
  index: anyNumber.map((index) => index || 1),
  term: anyNumber,
  type: fc.constantFrom("command", "no-op", "configuration"),
  data: fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(new Uint8Array(20_000).fill(7))),
});
const anyRequest: fc.Arbitrary<AppendFields> = fc.record({
  from: fc.string({ maxLength: 64 }),
  term: anyNumber,
  prev: fc.record({ index: anyNumber, term: anyNumber }),
  entries: fc.array(anyEntry, { maxLength: 20 }),
  leaderCommit: anyNumber,
  round: anyNumber,
  isConditional: fc.boolean(),
  awaitsApplied: fc.boolean(),
  membershipIndex: fc.option(anyNumber, { nil: undefined }),
});

test("an AppendEntries request has the bytes that protobuf-es would write", () => {
  const header = { protocolVersion: 2, clusterId: "c-1", senderId: "n1", receiverId: "n2" };
  const encodedHeader = toBinary(PeerHeaderSchema, create(PeerHeaderSchema, header));
  fc.assert(
    fc.property(anyRequest, fc.boolean(), (request, isFirst) => {
      const message = create(AppendEntriesRequestSchema, {
        ...(isFirst && { header }),
        term: BigInt(request.term),
        leaderId: nameOf(request.from),
        prevLogIndex: BigInt(request.prev.index),
        prevLogTerm: BigInt(request.prev.term),
        entries: request.entries.map(({ index, term, type, data }) => ({
          index: BigInt(index),
          term: BigInt(term),
          type: types[type],
          data,
        })),
        leaderCommit: BigInt(request.leaderCommit),
        round: BigInt(request.round),
        conditional: request.isConditional === true,
        awaitApplied: request.awaitsApplied === true,
        membershipIndex: BigInt(request.membershipIndex ?? 0),
      });
      const expected = Buffer.from(toBinary(AppendEntriesRequestSchema, message));
      expect(encodeAppend(request, isFirst ? encodedHeader : undefined).equals(expected)).toBe(true);
    }),
  );
});
