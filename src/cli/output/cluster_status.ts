import {
  CertificateUse,
  type GetLogInfoResponse,
  type GetStatusResponse,
  NodeRole,
  ProgressState,
  SnapshotReason,
} from "../../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../../base/errors.js";
import type { ClusterAdmin } from "../../client/admin/cluster_admin.js";
import { membershipFromMessage } from "../../encoding/membership.js";
import { type HealthReport, healthReportOf, type LogSyncReport, logSyncOf, logSyncText } from "./member_health.js";
import { type MemberVersions, mixedVersions, versionsOf } from "./member_versions.js";
import { table } from "./table.js";

/** Time limit for a node to describe its log, in milliseconds. */
const LOG_TIMEOUT_MS = 2_000;

/** The status of a cluster, as its members describe it. */
export interface ClusterStatus {
  readonly cluster: string;
  readonly leader: string | undefined;
  readonly term: number;
  readonly members: readonly MemberStatus[];
}

export interface MemberStatus extends MemberVersions {
  readonly id: string;
  readonly address: string;
  /** voter or learner. */
  readonly member: string;
  /** Why the member does not answer; if so, the fields from `role` to `warnings` are left out. */
  readonly error?: string;
  readonly role?: string;
  readonly term?: number;
  readonly commit?: number;
  readonly applied?: number;
  /** First and last entry of its log. */
  readonly log?: { readonly first: number; readonly last: number };
  /** Index of its newest snapshot; 0 without one. */
  readonly snapshot?: number;
  /** Number of entries that the leader has committed and this member has not applied. */
  readonly lag?: number;
  readonly diskFull?: boolean;
  /** The newest snapshot that it took or installed since it was started. */
  readonly lastSnapshot?: LastSnapshotReport;
  /** Problems that need an operator, in words. */
  readonly warnings?: readonly string[];
  /** Mode in which the leader replicates to this member, as the leader reports it. */
  readonly how?: string;
  /** The member's health; left out when no node reports it. */
  readonly health?: HealthReport;
  readonly logSync?: LogSyncReport;
  /** The certificates that it uses for TLS; none without TLS. */
  readonly certificates?: readonly CertificateReport[];
}

export interface CertificateReport {
  /** See CertificateUse in admin.proto. */
  readonly use: string;
  readonly subject: string;
  readonly file: string;
  /** ISO 8601 */
  readonly expires: string;
}

export interface LastSnapshotReport {
  readonly index: number;
  /** See SnapshotReason in admin.proto. */
  readonly reason: string;
  /** ISO 8601 */
  readonly finished: string;
  readonly durationMs: number;
  readonly fileBytes: number;
}

/** Asks all members. @throws CairnError UNREACHABLE when no endpoint answers */
export async function clusterStatus(cluster: ClusterAdmin): Promise<ClusterStatus> {
  const view = await cluster.look();
  const { newest } = view;
  const members = membershipFromMessage(newest.membership);
  const answers = await Promise.all(
    members.map(async ({ id }) => {
      try {
        const admin = cluster.at(view.addressOf(id));
        const settings = { timeoutMs: LOG_TIMEOUT_MS };
        const [status, log] = await Promise.all([admin.getStatus({}, settings), admin.getLogInfo({}, settings)]);
        return { status, log };
      } catch (error) {
        return CairnError.from(error);
      }
    }),
  );
  const leader = answers.flatMap((answer) => ("status" in answer ? [answer.status] : [])).find(isLeader);
  return {
    cluster: newest.clusterId,
    leader: leader?.nodeId ?? (newest.leaderId === "" ? undefined : newest.leaderId),
    term: Number(newest.term),
    members: members.map(({ id, address, role }, at) => {
      const answer = answers[at]!;
      const health = healthReportOf(id, "status" in answer ? answer.status : undefined, leader);
      const member = { id, address, member: role, ...sending(leader, id), ...(health !== undefined && { health }) };
      if (!("status" in answer)) return { ...member, error: answer.text };
      return { ...member, ...describe(answer.status, answer.log, leader) };
    }),
  };
}

function isLeader({ role }: GetStatusResponse): boolean {
  return role === NodeRole.LEADER;
}

function describe(status: GetStatusResponse, log: GetLogInfoResponse, leader: GetStatusResponse | undefined) {
  const applied = Number(status.appliedIndex);
  return {
    ...versionsOf(status),
    role: roles[status.role],
    term: Number(status.term),
    commit: Number(status.commitIndex),
    applied,
    log: { first: Number(log.firstIndex), last: Number(log.lastIndex) },
    snapshot: Number(status.snapshotIndex),
    // The leader was asked at another moment, so the difference may be negative.
    ...(leader !== undefined && { lag: Math.max(0, Number(leader.commitIndex) - applied) }),
    diskFull: status.diskFull,
    ...(status.lastSnapshot !== undefined && { lastSnapshot: lastSnapshotOf(status.lastSnapshot) }),
    warnings: status.warnings,
    ...logSyncOf(status),
    certificates: status.certificates.map(({ use, subject, file, expiresUnixMs }) => ({
      use: CertificateUse[use]?.toLowerCase() ?? "unknown",
      subject,
      file,
      expires: new Date(Number(expiresUnixMs)).toISOString(),
    })),
  };
}

function lastSnapshotOf(message: NonNullable<GetStatusResponse["lastSnapshot"]>): LastSnapshotReport {
  return {
    index: Number(message.index),
    reason: SnapshotReason[message.reason]?.toLowerCase() ?? "unknown",
    finished: new Date(Number(message.finishedUnixMs)).toISOString(),
    durationMs: Number(message.durationMs),
    fileBytes: Number(message.fileBytes),
  };
}

function sending(leader: GetStatusResponse | undefined, id: string): { how?: string } {
  const progress = leader?.progress.find(({ nodeId }) => nodeId === id);
  if (progress === undefined) return {};
  return { how: progress.active ? states[progress.state] : `${states[progress.state]}, silent` };
}

/** Formats the status as a table. */
export function statusText({ cluster, leader, term, members }: ClusterStatus): string {
  const head = [
    "ID",
    "ADDRESS",
    "MEMBER",
    "VERSION",
    "ROLE",
    "TERM",
    "COMMIT",
    "APPLIED",
    "LAG",
    "LOG",
    "SNAPSHOT",
    "HOW",
    "SYNC",
    "HEALTH",
    // Only where there is TLS.
    ...(members.some(({ certificates = [] }) => certificates.length > 0) ? ["CERTIFICATE"] : []),
  ];
  const rows = members.map((each) => [
    each.id,
    each.address,
    each.member,
    each.version ?? "-",
    each.error === undefined ? `${each.role}${each.diskFull ? ", disk full" : ""}` : "does not answer",
    ...[each.term, each.commit, each.applied, each.lag].map(numberText),
    each.log === undefined ? "-" : each.log.last < each.log.first ? "empty" : `${each.log.first}..${each.log.last}`,
    numberText(each.snapshot),
    each.how ?? "-",
    logSyncText(each.logSync),
    each.health?.verdict.replaceAll("_", " ") ?? "-",
    ...(head.includes("CERTIFICATE") ? [firstEnd(each.certificates)] : []),
  ]);
  const title = `cluster ${cluster}, term ${term}, ${leader === undefined ? "no leader" : `${leader} leads`}`;
  const errors = members.flatMap(({ id, error }) => (error === undefined ? [] : [`${id}: ${error}`]));
  const warnings = members.flatMap(({ id, warnings = [] }) => warnings.map((text) => `${id} warns: ${text}`));
  const seen = members.flatMap(({ id, health }) =>
    health === undefined || health.leaderSays === "" ? [] : [`${leader} warns of ${id}: ${health.leaderSays}`],
  );
  const mixed = mixedVersions(members);
  const versions = mixed === undefined ? [] : [`versions differ: ${mixed}`];
  return [title, table(head, rows), ...errors, ...versions, ...warnings, ...seen].join("\n");
}

/** Returns the day on which the first of a member's certificates ends. */
function firstEnd(certificates: readonly CertificateReport[] = []): string {
  const [first] = certificates.map(({ expires }) => expires).sort();
  return first === undefined ? "-" : `until ${first.slice(0, first.indexOf("T"))}`;
}

function numberText(value: number | undefined): string {
  return value === undefined ? "-" : `${value}`;
}

const roles: Readonly<Record<NodeRole, string>> = {
  [NodeRole.UNSPECIFIED]: "unknown",
  [NodeRole.FOLLOWER]: "follower",
  [NodeRole.PRE_CANDIDATE]: "pre-candidate",
  [NodeRole.CANDIDATE]: "candidate",
  [NodeRole.LEADER]: "leader",
};

const states: Readonly<Record<ProgressState, string>> = {
  [ProgressState.UNSPECIFIED]: "unknown",
  [ProgressState.PROBE]: "probe",
  [ProgressState.REPLICATE]: "replicate",
  [ProgressState.LOST]: "lost data",
  [ProgressState.SNAPSHOT]: "snapshot",
};
