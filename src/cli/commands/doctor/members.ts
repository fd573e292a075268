import { setTimeout as pause } from "node:timers/promises";
import type { GetLogInfoResponse, GetStatusResponse } from "../../../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../../../base/errors.js";
import type { ClusterAdmin } from "../../../client/admin/cluster_admin.js";
import { membershipFromMessage } from "../../../encoding/membership.js";
import type { Member } from "../../../raft/types.js";
import type { ClockSample } from "./clock_findings.js";

/** Time limit for a node's answer, in milliseconds. */
const ANSWER_MS = 2_000;

/** Time between two looks at a node's clocks, in milliseconds. */
const CLOCK_MS = 1_000;

/** A member's answer, or the reason why there is none. */
export type MemberReply =
  | {
      readonly member: Member;
      readonly status: GetStatusResponse;
      readonly log: GetLogInfoResponse;
      readonly clocks: readonly ClockSample[];
    }
  | { readonly member: Member; readonly error: string };

/** The answers of a cluster's members. */
export interface ClusterAnswers {
  readonly clusterId: string;
  readonly leaderId: string;
  readonly members: readonly MemberReply[];
}

/**
 * Asks all members, twice for their clocks.
 * @throws CairnError UNREACHABLE when no endpoint answers
 */
export async function askMembers(cluster: ClusterAdmin): Promise<ClusterAnswers> {
  const view = await cluster.look();
  const { clusterId, leaderId, membership } = view.newest;
  const members = await Promise.all(
    membershipFromMessage(membership).map(async (member): Promise<MemberReply> => {
      try {
        const admin = cluster.at(view.addressOf(member.id));
        const ask = () => timed(() => admin.getStatus({}, { timeoutMs: ANSWER_MS }));
        const log = await admin.getLogInfo({}, { timeoutMs: ANSWER_MS });
        const first = await ask();
        await pause(CLOCK_MS);
        const second = await ask();
        const clocks = [first, second].flatMap(({ answer, ...own }) => {
          const { process } = answer;
          return process === undefined ? [] : [{ unixMs: Number(process.unixMs), upMs: process.upMs, ...own }];
        });
        return { member, status: second.answer, log, clocks };
      } catch (error) {
        return { member, error: CairnError.from(error).text };
      }
    }),
  );
  return { clusterId, leaderId, members };
}

async function timed<Answer>(ask: () => Promise<Answer>) {
  const [askedMs, askedUnixMs] = [performance.now(), Date.now()];
  const answer = await ask();
  const roundTripMs = performance.now() - askedMs;
  return { answer, roundTripMs, ownMs: askedMs + roundTripMs / 2, ownUnixMs: askedUnixMs + roundTripMs / 2 };
}
