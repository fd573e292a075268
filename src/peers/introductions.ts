import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type Base as BaseMessage,
  type BaseSchema,
  CameBy as CameByMessage,
  type IntroduceRequest,
  type IntroduceRequestSchema,
  type IntroduceResponse,
  type IntroduceResponseSchema,
  type JoinRequest,
  type NamedAddress as NamedAddressMessage,
} from "../../gen/cairn/v1/raft_pb.js";
import type { Membership as MembershipMessage } from "../../gen/cairn/v1/storage_pb.js";
import { isAddress } from "../base/addresses.js";
import { checkId } from "../base/arguments.js";
import { CairnError } from "../base/errors.js";
import { incarnationBytes, incarnationText, isIncarnation } from "../base/ids.js";
import { limits } from "../base/limits.js";
import { overLimit } from "../base/telemetry/refusals.js";
import { membershipFromMessage, membershipToMessage } from "../encoding/membership.js";
import type { Base, Introduced, Introduction, NamedAddress, Standing } from "../raft/membership/introduction.js";
import type { MembershipChange } from "../raft/membership/membership_change.js";
import { membersProblem } from "../raft/membership/membership_rules.js";
import type { Membership } from "../raft/types.js";
import { toIndex, toTerm } from "../rpc/message_counters.js";
import { quoted } from "./peer_header.js";
import { checkProtocol, PROTOCOL_VERSION } from "./protocol.js";

// Translates introductions: from the types of the rules (raft/membership/introduction.ts) to
// raft.proto, and back.

export function introduceRequest(asked: Introduction): MessageInitShape<typeof IntroduceRequestSchema> {
  const { name, receiver, founders, base, founder, askPromise } = asked;
  return {
    protocolVersion: PROTOCOL_VERSION,
    name,
    receiverName: receiver,
    founders: [...founders],
    ...(base !== undefined && { base: baseToMessage(base) }),
    founderIncarnation: incarnationBytes(founder),
    askPromise,
  };
}

/**
 * Translates a request.
 * @throws CairnError INVALID_ARGUMENT, WRONG_CLUSTER for another protocol
 */
export function toIntroduction(request: IntroduceRequest): Introduction {
  checkProtocol(request.protocolVersion);
  checkId(request.name, "name");
  return {
    name: request.name,
    receiver: request.receiverName,
    founders: toFounders(request.founders),
    base: toBase(request.base),
    founder: toIncarnation(request.founderIncarnation, "founder_incarnation"),
    askPromise: request.askPromise,
  };
}

export function introduceResponse(introduced: Introduced): MessageInitShape<typeof IntroduceResponseSchema> {
  const { name, incarnation, founders, base, standing } = introduced;
  return {
    name,
    incarnation: incarnationBytes(incarnation),
    founders: [...founders],
    ...(base !== undefined && { base: baseToMessage(base) }),
    standing: standingToMessage(standing),
  };
}

/**
 * Translates an answer.
 * @throws CairnError INVALID_ARGUMENT for an answer that no correct node gives
 */
export function toIntroduced(response: IntroduceResponse): Introduced {
  checkId(response.name, "name");
  return {
    name: response.name,
    incarnation: toIncarnation(response.incarnation, "incarnation"),
    founders: toFounders(response.founders),
    base: toBase(response.base),
    standing: toStanding(response),
  };
}

/**
 * Translates a request to join, and checks that it names this cluster.
 * @throws CairnError INVALID_ARGUMENT, WRONG_CLUSTER
 */
export function toJoin(request: JoinRequest, clusterId: string): MembershipChange & { type: "join" } {
  checkProtocol(request.protocolVersion);
  checkId(request.name, "name");
  if (request.clusterId !== clusterId || clusterId === "") {
    throw new CairnError("WRONG_CLUSTER", `cluster_id is ${quoted(request.clusterId)}, expected ${quoted(clusterId)}`);
  }
  const incarnation = toIncarnation(request.incarnation, "incarnation");
  if (incarnation === "") throw new CairnError("INVALID_ARGUMENT", "incarnation is missing: it must have 16 bytes");
  if (!isAddress(request.address)) {
    throw new CairnError("INVALID_ARGUMENT", `address ${quoted(request.address)} must be host:port`);
  }
  const cameBy = request.cameBy === CameByMessage.JOIN ? "join" : "cluster";
  return { type: "join", id: request.name, incarnation, address: request.address, cameBy };
}

export function baseToMessage({ index, term, sha256 }: Base): MessageInitShape<typeof BaseSchema> {
  return { index: BigInt(index), term: BigInt(term), sha256: Buffer.from(sha256, "hex") };
}

function standingToMessage(
  standing: Standing,
): NonNullable<MessageInitShape<typeof IntroduceResponseSchema>["standing"]> {
  switch (standing.kind) {
    case "new":
      return { case: "new", value: { promised: standing.promised } };
    case "retired":
      return { case: "retired", value: {} };
    case "member": {
      const { clusterId, membership, membershipIndex, leader } = standing;
      return {
        case: "member",
        value: {
          clusterId,
          membership: membershipToMessage(membership),
          membershipIndex: BigInt(membershipIndex),
          leaderName: leader?.name ?? "",
          leaderAddress: leader?.address ?? "",
        },
      };
    }
  }
}

function toStanding({ standing }: IntroduceResponse): Standing {
  switch (standing.case) {
    case "new":
      return { kind: "new", promised: standing.value.promised };
    case "retired":
      return { kind: "retired" };
    case "member": {
      const { clusterId, membership, membershipIndex, leaderName, leaderAddress } = standing.value;
      checkId(clusterId, "cluster_id");
      return {
        kind: "member",
        clusterId,
        membership: toMembership(membership),
        membershipIndex: toIndex(membershipIndex, "membership_index"),
        leader: leaderName === "" ? undefined : toNamedAddress({ name: leaderName, address: leaderAddress }),
      };
    }
    case undefined:
      throw new CairnError("INVALID_ARGUMENT", "standing is missing");
  }
}

/** Returns the members of a peer's cluster; none when the peer does not know them yet. */
function toMembership(message: MembershipMessage | undefined): Membership {
  const members = membershipFromMessage(message);
  const problem = members.length === 0 ? undefined : membersProblem(members);
  if (problem !== undefined) throw new CairnError("INVALID_ARGUMENT", `membership: ${problem}`);
  return members;
}

function toFounders(founders: readonly NamedAddressMessage[]): NamedAddress[] {
  if (founders.length > limits.members) {
    const text = `${founders.length} founders are named; the limit members is ${limits.members}`;
    throw overLimit("LIMIT_EXCEEDED", "members", text);
  }
  return founders.map(toNamedAddress);
}

/**
 * Translates a founder. A node that was founded alone, on a port that the system chose, has no
 * address.
 */
function toNamedAddress({ name, address }: NamedAddress): NamedAddress {
  checkId(name, "name");
  if (address !== "" && !isAddress(address)) {
    throw new CairnError("INVALID_ARGUMENT", `address of ${name} must be host:port`);
  }
  return { name, address };
}

function toBase(base: BaseMessage | undefined): Base | undefined {
  if (base === undefined || base.index === 0n) return undefined;
  if (base.sha256.byteLength !== 32) throw new CairnError("INVALID_ARGUMENT", "base.sha256 must have 32 bytes");
  return {
    index: toIndex(base.index, "base.index"),
    term: toTerm(base.term, "base.term"),
    sha256: Buffer.from(base.sha256).toString("hex"),
  };
}

function toIncarnation(bytes: Uint8Array, field: string): string {
  const text = incarnationText(bytes);
  if (isIncarnation(text)) return text;
  throw new CairnError("INVALID_ARGUMENT", `${field} must have 16 bytes, or none`);
}
