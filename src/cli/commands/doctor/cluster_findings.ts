import { type GetStatusResponse, NodeRole } from "../../../../gen/cairn/v1/admin_pb.js";
import { limits } from "../../../base/limits.js";
import { healthReportOf } from "../../output/member_health.js";
import { mixedVersions, programText, versionsOf } from "../../output/member_versions.js";
import { certificateFindings, tells } from "./certificate_findings.js";
import { clockFindings } from "./clock_findings.js";
import { bytesText, type DoctorFinding, msText, ok, problem, warning } from "./findings.js";
import type { ClusterAnswers, MemberReply } from "./members.js";
import { processFindings } from "./process_findings.js";

type Answered = Extract<MemberReply, { status: unknown }>;

/** Duration of log syncs that calls for a look, in milliseconds. */
const SLOW_SYNC_MS = 100;

/** Entries that a member may lag behind before it is mentioned. */
const LAG_ENTRIES = 10_000;

/** Judges a cluster by what its members answer. */
export function clusterFindings({ clusterId, leaderId, members }: ClusterAnswers): DoctorFinding[] {
  const answered = members.filter((each): each is Answered => "status" in each);
  const leader = answered.find(({ status }) => status.role === NodeRole.LEADER)?.status;
  const clocks = answered.flatMap(({ member, clocks: [first, second] }) =>
    first === undefined || second === undefined ? [] : [{ name: member.id, first, second }],
  );
  return [
    ...leadership(clusterId, leaderId, leader),
    ...quorum(members, answered),
    ...members.flatMap((each) => memberFindings(each, leader)),
    ...versions(answered),
    ...clockFindings(clocks),
    ...certificateFindings(answered, Date.now()),
    ...answered.flatMap(resources),
  ];
}

function leadership(clusterId: string, leaderId: string, leader: GetStatusResponse | undefined): DoctorFinding[] {
  if (leader !== undefined) return [ok("leader", `${leader.nodeId} leads cluster ${clusterId} in term ${leader.term}`)];
  if (leaderId !== "") {
    return [
      problem(
        "leader",
        `${leaderId} is said to lead, and does not answer from here`,
        "Start it, or name its address with --endpoints.",
      ),
    ];
  }
  return [
    problem(
      "leader",
      `cluster ${clusterId} has no leader`,
      "A majority of its voters must run and reach each other: see the members below.",
    ),
  ];
}

function quorum(members: readonly MemberReply[], answered: readonly Answered[]): DoctorFinding[] {
  const voters = members.filter(({ member }) => member.role === "voter").length;
  const present = answered.filter(({ member }) => member.role === "voter").length;
  const needed = Math.floor(voters / 2) + 1;
  const text = `${present} of ${voters} voters answer, and ${needed} are needed`;
  const findings: DoctorFinding[] = [];
  if (present < needed) {
    findings.push(
      problem("quorum", text, "Start the others. When they are gone for good: docs/operations.md, 'A lost majority'."),
    );
  } else if (present === needed && voters > 1) {
    findings.push(
      warning(
        "quorum",
        `${text}: the loss of one more stops all writes`,
        "Bring the silent voters back, or replace them.",
      ),
    );
  } else findings.push(ok("quorum", text));
  if (voters === 1) {
    findings.push(
      warning("voters", "there is one voter: its disk holds the only copy", "Add two members: cairn start --join."),
    );
  } else if (voters % 2 === 0) {
    const same = `${voters} voters survive the loss of ${voters - needed}, as ${voters - 1} would`;
    findings.push(warning("voters", same, "Add a voter, or remove one."));
  }
  return findings;
}

function memberFindings(answer: MemberReply, leader: GetStatusResponse | undefined): DoctorFinding[] {
  const { id, address, role, wantsVote } = answer.member;
  const subject = `member ${id}`;
  const findings: DoctorFinding[] = [];
  const status = "status" in answer ? answer.status : undefined;
  const health = healthReportOf(id, status, leader);
  if ("error" in answer) {
    const advice = `Start it, or if it is gone for good: cairn member remove ${id}. Is ${address} the address that others reach it at?`;
    findings.push(problem(subject, `does not answer: ${answer.error}`, advice));
  } else if (health !== undefined && health.verdict !== "healthy") {
    const text = `${health.verdict.replaceAll("_", " ")}: ${health.reason}`;
    findings.push(problem(subject, text, "docs/operations.md, 'Health', says what each verdict asks for."));
  } else findings.push(...inStep(answer, leader));
  // The findings about certificates say the same, with what to do.
  for (const text of (status?.warnings ?? []).filter((each) => !tells(status?.certificates ?? [], each))) {
    findings.push(warning(subject, text, "docs/operations.md, 'Warnings', says what to do."));
  }
  if (role === "learner") findings.push(learner(subject, id, wantsVote === true));
  return findings;
}

function inStep({ member, status }: Answered, leader: GetStatusResponse | undefined): DoctorFinding[] {
  const lag = leader === undefined ? 0 : Math.max(0, Number(leader.commitIndex - status.appliedIndex));
  const text = `${member.role}, has applied index ${status.appliedIndex}${lag === 0 ? "" : `, ${lag} entries behind`}`;
  if (lag <= LAG_ENTRIES) return [ok(`member ${member.id}`, text)];
  const advice =
    "It catches up by itself unless it is slower than the writers: compare its disk and CPU with the others'.";
  return [warning(`member ${member.id}`, text, advice)];
}

function learner(subject: string, id: string, wantsVote: boolean): DoctorFinding {
  if (wantsVote) {
    const advice = "The leader promotes it when it has caught up: see HOW and LAG in cairn status.";
    return warning(subject, "it is a learner that waits for its vote", advice);
  }
  return warning(
    subject,
    "it is a learner, and was never promoted",
    `cairn member promote ${id}, or keep it as a copy without a vote.`,
  );
}

function versions(answered: readonly Answered[]): DoctorFinding[] {
  const [first, ...others] = answered.map(({ member: { id }, status }) => ({ id, ...versionsOf(status) }));
  if (first === undefined) return [];
  const inForce = Math.max(...[first, ...others].map(({ versions }) => versions?.rulesInForce ?? 0));
  const rules = inForce === 0 ? "" : `; rules ${inForce} are in force`;
  const mixed = mixedVersions([first, ...others]);
  if (mixed === undefined) return [ok("versions", `all that answer run ${programText(first)}${rules}`)];
  return [warning("versions", `${mixed}${rules}`, "Finish the upgrade: docs/operations.md, 'A new version'.")];
}

function resources({ member: { id }, status, log }: Answered): DoctorFinding[] {
  const { process, logSync, lastSnapshot } = status;
  const findings: DoctorFinding[] = [];
  if (process !== undefined) {
    const [memory, files] = [process.memoryLimitBytes, process.openFilesLimit];
    const figures = {
      memoryBytes: Number(process.memoryBytes),
      memoryLimitBytes: memory === undefined ? undefined : Number(memory),
      openFilesLimit: files === undefined ? undefined : Number(files),
    };
    findings.push(...processFindings(id, figures));
  }
  if (logSync !== undefined) {
    const text = `${id} syncs its log in ${msText(logSync.p99Ms)} at the 99th percentile, ${msText(logSync.maxMs)} at most, within a minute`;
    const advice =
      "Give its data directory a faster disk, or one that it shares with nobody. cairn doctor DIR measures it.";
    findings.push(logSync.p99Ms > SLOW_SYNC_MS ? warning("disk", text, advice) : ok("disk", text));
  }
  findings.push(
    logExtent(id, {
      logBytes: Number(log.diskBytes),
      entries: Number(log.lastIndex - log.firstIndex) + 1,
      snapshotIndex: Number(log.snapshotIndex),
      snapshotBytes: Number(lastSnapshot?.fileBytes ?? 0),
    }),
  );
  return findings;
}

/** Judges whether snapshots keep a log bounded, by the default settings. */
export function logExtent(
  name: string,
  {
    logBytes,
    entries,
    snapshotIndex,
    snapshotBytes,
  }: {
    readonly logBytes: number;
    readonly entries: number;
    readonly snapshotIndex: number;
    readonly snapshotBytes: number;
  },
): DoctorFinding {
  // The log is kept back to the second newest snapshot, and each waits for as much log as its size.
  const due = Math.max(limits.snapshotLogBytes, snapshotBytes * limits.snapshotLogRatio);
  const bound = 3 * due + limits.trailingLogBytes + 2 * limits.segmentBytes;
  const newest = snapshotIndex === 0 ? "no snapshot yet" : `newest snapshot at index ${snapshotIndex}`;
  const text = `${name} has ${entries} entries in ${bytesText(logBytes)} of log, ${newest}`;
  if (logBytes <= bound) return ok("log", `${text}: bounded`);
  const advice =
    `With the default settings it would stay below ${bytesText(bound)}. See --snapshot-log-bytes, and whether cairn status warns: ` +
    "a member that catches up pins the log, up to --pinned-log-bytes. cairn snapshot take trims it now.";
  return warning("log", text, advice);
}
