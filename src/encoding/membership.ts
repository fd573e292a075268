import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  MembershipSchema,
  type Membership as Message,
  MemberRole as RoleMessage,
} from "../../gen/cairn/v1/storage_pb.js";
import { incarnationBytes, incarnationText } from "../base/ids.js";
import type { MembershipCodec } from "../raft/membership/membership.js";
import { membersProblem } from "../raft/membership/membership_rules.js";
import type { MemberRole, Membership } from "../raft/types.js";

// Encodes memberships for configuration entries and snapshot headers.

const roleMessages: Readonly<Record<MemberRole, RoleMessage>> = {
  voter: RoleMessage.VOTER,
  learner: RoleMessage.LEARNER,
};

const roles: Readonly<Record<RoleMessage, MemberRole | undefined>> = {
  [RoleMessage.UNSPECIFIED]: undefined,
  [RoleMessage.VOTER]: "voter",
  [RoleMessage.LEARNER]: "learner",
};

/** Converts a membership to a protobuf message. */
export function membershipToMessage(members: Membership): MessageInitShape<typeof MembershipSchema> {
  return {
    members: members.map(({ id, address, role, incarnation = "", wantsVote = false }) => {
      return { id, address, role: roleMessages[role], incarnation: incarnationBytes(incarnation), wantsVote };
    }),
  };
}

/**
 * Converts a protobuf message to a membership. @throws when this version does not know a member's
 * role
 */
export function membershipFromMessage(message: Message | undefined): Membership {
  return (message?.members ?? []).map(({ id, address, role, incarnation, wantsVote }) => {
    const name = roles[role];
    if (name === undefined) throw new Error(`member ${id} has the unknown role ${role}`);
    return {
      id,
      address,
      role: name,
      ...(incarnation.byteLength > 0 && { incarnation: incarnationText(incarnation) }),
      ...(wantsVote && { wantsVote }),
    };
  });
}

/**
 * Encodes and decodes the membership in a configuration entry. It refuses to decode a membership
 * that {@link membersProblem} rejects.
 */
export const membershipCodec: MembershipCodec = {
  encode: (members) => toBinary(MembershipSchema, create(MembershipSchema, membershipToMessage(members))),
  decode(data) {
    const members = membershipFromMessage(fromBinary(MembershipSchema, data));
    // No snapshot could hold such members, so an entry with them must never enter a log.
    const problem = membersProblem(members);
    if (problem !== undefined) throw new Error(problem);
    return members;
  },
};
