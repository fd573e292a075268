import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { SessionErrorSchema } from "../../../../gen/cairn/v1/kv_pb.js";
import {
  AppendEntriesRequestSchema,
  AppendEntriesResponseSchema,
  InstallSnapshotResponseSchema,
  IntroduceRequestSchema,
  IntroduceResponseSchema,
  JoinRequestSchema,
  PeerHeaderSchema,
  RequestVoteResponseSchema,
} from "../../../../gen/cairn/v1/raft_pb.js";
import {
  introduceRequest,
  introduceResponse,
  toIntroduced,
  toIntroduction,
  toJoin,
} from "../../../../src/peers/introductions.js";
import { checkPeer } from "../../../../src/peers/peer_header.js";
import { toAppendAnswer, toEntry, toInstallReply, toVoteAnswer } from "../../../../src/peers/protocol.js";
import { fromCallError } from "../../../../src/rpc/status.js";
import type { Random } from "../../../support/random.js";
import { type Hints, randomMessage } from "../../generate/messages.js";
import { mutated } from "../../generate/mutations.js";
import { encoded } from "./commands.js";
import { type Decoder, expectAnyRefusal, expectRefusal, unlessRefused } from "./decoder.js";

// The decoders of what members, and servers, say to each other.

const INCARNATION = Buffer.alloc(16, 7);
const SELF = { id: "n1", incarnation: INCARNATION.toString("hex"), clusterId: "c1" };

const hints: Hints = (field, random) => {
  switch (field.name) {
    case "cluster_id":
      return "c1";
    case "receiver_id":
      return "n1";
    case "receiver_incarnation":
    case "sender_incarnation":
    case "founder_incarnation":
    case "incarnation":
      return INCARNATION;
    case "sha256":
      return Buffer.alloc(32, 3);
    case "sender_id":
    case "name":
    case "leader_name":
    case "id":
      return random.pick(["n1", "n2", "n3"]);
    case "address":
    case "leader_address":
      return "127.0.0.1:7101";
    case "protocol_version":
      return 2;
    case "term":
    case "index":
    case "match_index":
      return BigInt(random.whole(0, 2 ** 48));
    default:
      return undefined;
  }
};

/** A decoder of a message that a function then translates. */
function translated<Schema extends DescMessage>(
  schema: Schema,
  translate: (message: MessageShape<Schema>) => unknown,
  judge: (error: unknown) => void = expectRefusal,
): Decoder {
  return {
    name: schema.name,
    draw: (random) => draw(random, schema),
    run(bytes) {
      const message = unlessRefused(() => fromBinary(schema, bytes), expectAnyRefusal);
      if (message !== undefined) unlessRefused(() => translate(message), judge);
    },
  };
}

function draw(random: Random, schema: DescMessage): Buffer {
  const bytes = randomMessage(random, schema, { wildness: random.pick([0, 0, 0.03, 0.2]), hints });
  return random.oneIn(4) ? mutated(random, bytes) : bytes;
}

export const peerDecoders: readonly Decoder[] = [
  translated(PeerHeaderSchema, (header) => checkPeer(header, SELF)),
  translated(AppendEntriesRequestSchema, ({ entries }) => entries.map(toEntry)),
  translated(IntroduceRequestSchema, (request) =>
    encoded(IntroduceRequestSchema, introduceRequest(toIntroduction(request))),
  ),
  translated(
    IntroduceResponseSchema,
    (response) => encoded(IntroduceResponseSchema, introduceResponse(toIntroduced(response))),
    // The caller of toIntroduced turns any error into a refusal.
    expectAnyRefusal,
  ),
  translated(JoinRequestSchema, (request) => toJoin(request, "c1")),
  translated(AppendEntriesResponseSchema, (response) =>
    toAppendAnswer("n2", { term: 3, round: 1, prevIndex: 4, acknowledged: undefined }, response),
  ),
  translated(RequestVoteResponseSchema, (response) =>
    toVoteAnswer(
      {
        type: "request_vote",
        from: "n1",
        to: "n2",
        term: 3,
        last: { index: 1, term: 1 },
        preVote: false,
        leadershipTransfer: false,
      },
      response,
    ),
  ),
  translated(InstallSnapshotResponseSchema, toInstallReply),
  translated(SessionErrorSchema, (error) => fromCallError(error)),
];
