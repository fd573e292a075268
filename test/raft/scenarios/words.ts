import type { TransferOutcome } from "../../../src/raft/leader/replication.js";
import type {
  AppendRejection,
  InstallSnapshotAnswer,
  PeerAnswer,
  PeerRequest,
  Request,
  Response,
} from "../../../src/raft/messages.js";
import type { ProgressInfo, Raft } from "../../../src/raft/raft.js";
import type { Entry, HardState, LogPosition, Membership, SnapshotMeta } from "../../../src/raft/types.js";
import { codec } from "../../support/nodes/core.js";

/** How traces word things. */

/** More entries than so many are named by the first and the last. */
const ENTRIES_SHOWN = 4;

export function positionText({ index, term }: LogPosition): string {
  return `${index}/${term}`;
}

export function membersText(members: Membership): string {
  return members.map(({ id, role }) => (role === "learner" ? `${id}(learner)` : id)).join(" ");
}

/** index/term, and what it carries. */
export function entryText(entry: Entry): string {
  return `${positionText(entry)} ${contentText(entry)}`;
}

function contentText({ type, data }: Entry): string {
  if (type === "no-op") return "no-op";
  if (type === "configuration") return `members ${membersText(codec.decode(data))}`;
  // Padding makes an entry large.
  return `"${new TextDecoder().decode(data).replaceAll("\0", "")}"`;
}

export function entriesText(entries: readonly Entry[]): string {
  if (entries.length <= ENTRIES_SHOWN) return entries.map(entryText).join(", ");
  return `${entryText(entries[0]!)} .. ${entryText(entries.at(-1)!)} (${entries.length} entries)`;
}

export function snapshotText({ index, term, membership }: SnapshotMeta): string {
  return `${index}/${term} with members ${membersText(membership.members)}, set by ${membership.index}`;
}

export function hardStateText({ term, vote, commit }: HardState): string {
  return `term=${term} vote=${vote ?? "-"} commit=${commit}`;
}

/** The kind of a request, by which `deliver` and `drop` pick; then what it says. */
export function requestText(request: PeerRequest | Request): string {
  const term = `term=${request.term}`;
  switch (request.type) {
    case "append_entries": {
      const where = `${term} prev=${positionText(request.prev)} commit=${request.leaderCommit}`;
      return request.entries.length === 0 ? `heartbeat ${where}` : `append ${where}: ${entriesText(request.entries)}`;
    }
    case "request_vote": {
      const transfer = request.leadershipTransfer ? " forced" : "";
      return `${request.preVote ? "pre-vote" : "vote"} ${term} last=${positionText(request.last)}${transfer}`;
    }
    case "timeout_now":
      return `timeout-now ${term}`;
    case "install_snapshot":
      return `snapshot ${term}: ${snapshotText(request.snapshot)}`;
  }
}

export function answerText(answer: PeerAnswer | Response): string {
  const term = `term=${answer.term}`;
  switch (answer.type) {
    case "append_entries_answer": {
      if (answer.outcome === "accepted") {
        return `append-answer ${term} match=${answer.matchIndex} last=${answer.lastIndex}`;
      }
      const { rejection } = answer;
      return `append-answer ${term} refused ${rejection.reason}${conflictText(rejection)}: ${rejection.detail}`;
    }
    case "request_vote_answer": {
      const kind = "request" in answer && answer.request.preVote ? "pre-vote-answer" : "vote-answer";
      return `${kind} ${term} ${answer.granted ? "granted" : "denied"}`;
    }
    case "timeout_now_answer":
      return `timeout-now-answer ${term}`;
    case "install_snapshot_answer":
      return `snapshot-answer ${term} ${answer.outcome}${matchText(answer)}: ${answer.detail}`;
  }
}

function conflictText(rejection: AppendRejection): string {
  if (rejection.reason !== "log_mismatch") return "";
  const { conflictTerm, conflictIndex } = rejection;
  return ` conflict-term=${conflictTerm ?? "none"} try=${conflictIndex}`;
}

function matchText(answer: InstallSnapshotAnswer): string {
  return "matchIndex" in answer ? ` match=${answer.matchIndex}` : "";
}

/** How the transfer of a snapshot has ended, as its sender hears of it. */
export function outcomeText(outcome: TransferOutcome, detail: string): string {
  switch (outcome.kind) {
    case "installed":
      return `snapshot-answer installed match=${outcome.matchIndex}`;
    case "ahead":
      return `snapshot-answer ahead commit=${outcome.commitIndex}`;
    case "failed":
      return `snapshot-answer failed: ${detail}`;
  }
}

export function progressText({ id, state, match, next, isActive }: ProgressInfo): string {
  return `${id}: ${state} match=${match} next=${next}${isActive ? "" : ", has not answered of late"}`;
}

export function statusText(id: string, raft: Raft): string {
  const { log, snapshot, membership } = raft;
  const leads = raft.role === "follower" ? `follower of ${raft.leader ?? "nobody"}` : raft.role;
  const parts = [
    `${leads} in term ${raft.term}`,
    `log ${log.boundary.index + 1}..${log.last.index} after ${positionText(log.boundary)}`,
    `last ${positionText(log.last)}`,
    `persisted ${log.persisted}`,
    `commit ${log.commit}`,
    `applied ${log.applied}`,
    `snapshot ${snapshot === undefined ? "none" : positionText(snapshot)}`,
    `members ${membersText(membership.members)} set by ${membership.index}`,
  ];
  return `${id}: ${parts.join(", ")}`;
}
