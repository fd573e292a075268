import type { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { LostData } from "../../raft/state.js";
import { outOfRoom } from "../requests/refusals.js";
import type { CatchUp } from "../snapshots/lag_monitor.js";
import type { MemberTimes } from "./member_watch.js";
import type { LogSync } from "./write_watch.js";

/**
 * Verdicts on a member, worst first. This file derives all verdicts, from facts that others
 * measure. To add one: name it here, in admin.proto, and in the tables that map the two.
 */
export const healthVerdicts = [
  "lost_data",
  "not_a_member",
  "cannot_catch_up",
  "stuck_disk",
  "silent",
  "falling_behind",
  "disk_full",
  "out_of_descriptors",
  "late_event_loop",
  "slow_disk",
  "slow_answers",
  "healthy",
] as const;

export type HealthVerdict = (typeof healthVerdicts)[number];

export interface MemberHealth {
  readonly id: string;
  /** The worst verdict. */
  readonly verdict: HealthVerdict;
  /** All findings as text, worst first; empty when healthy. */
  readonly reason: string;
}

/** The health of a node and, on the leader, of the other members. */
export interface FitnessView {
  readonly logSync: LogSync;
  /** This node, and on the leader every other member. */
  readonly health: readonly MemberHealth[];
  /** Warnings about this node, for an operator. */
  readonly warnings: readonly string[];
}

/** A problem of a member. */
export interface Finding {
  readonly verdict: HealthVerdict;
  readonly text: string;
}

/** Intervals of the node that judges, in milliseconds. */
export interface Pace {
  readonly tickMs: number;
  readonly electionMs: number;
}

export interface OwnHealthFacts {
  readonly sync: LogSync;
  /** Largest recent delay of the event loop. */
  readonly lateMs: number;
  /** Reason why it refuses writes; undefined when it takes them. */
  readonly shortage: CairnError | undefined;
  /** Set when it has less than it acknowledged. */
  readonly lost: LostData | undefined;
  /** Index of the change that removed it from its cluster. */
  readonly removedAt: number | undefined;
}

export interface PeerHealthFacts {
  readonly times: MemberTimes;
  /** Whether snapshots help it. */
  readonly catchUp: CatchUp;
  /** Set when it has less than it acknowledged. */
  readonly lost: LostData | undefined;
}

/**
 * A member without progress is falling behind after this many election timeouts. A member that is
 * receiving a snapshot gets more time.
 */
const IDLE_TIMEOUTS = 5;
const IDLE_TIMEOUTS_BY_SNAPSHOT = 30;

export function healthOf(id: string, findings: readonly Finding[]): MemberHealth {
  const rank = ({ verdict }: Finding) => healthVerdicts.indexOf(verdict);
  const sorted = [...findings].sort((a, b) => rank(a) - rank(b));
  return { id, verdict: sorted[0]?.verdict ?? "healthy", reason: sorted.map(({ text }) => text).join("; ") };
}

/**
 * Returns the problems of this node. A disk or an event loop that takes half an election timeout
 * may soon cost leadership.
 */
export function ownFindings(facts: OwnHealthFacts, { electionMs }: Pace): Finding[] {
  const { sync, lateMs, shortage, lost, removedAt } = facts;
  const findings: Finding[] = [];
  if (lost !== undefined) findings.push(lostData(lost));
  if (removedAt !== undefined) {
    findings.push({ verdict: "not_a_member", text: `it was removed from its cluster at index ${removedAt}` });
  }
  const { underWayMs = 0, maxMs } = sync;
  const slowMs = Math.max(limits.slowMs, electionMs / 2);
  const ofTimeout = `an election timeout is ${duration(electionMs)}`;
  if (underWayMs >= electionMs) {
    const text = `a write of the log has been in progress for ${duration(underWayMs)}: the disk does not complete it`;
    findings.push({ verdict: "stuck_disk", text });
  } else if (maxMs >= slowMs) {
    const text = `a sync of the log took ${duration(maxMs)} within the last minute, and ${ofTimeout}: the disk is too slow`;
    findings.push({ verdict: "slow_disk", text });
  }
  if (lateMs >= slowMs) {
    const text = `the process stalled for ${duration(lateMs)} within the last minute, and ${ofTimeout}`;
    findings.push({
      verdict: "late_event_loop",
      text: `${text}: it is short of CPU time, was paused, or its clock jumped`,
    });
  }
  if (shortage !== undefined) {
    const verdict = shortage.code === "DISK_FULL" ? "disk_full" : "out_of_descriptors";
    findings.push({ verdict, text: outOfRoom(shortage).text });
  }
  return findings;
}

/** Returns the problems of another member, as its leader sees them. */
export function memberFindings({ times, catchUp, lost }: PeerHealthFacts, { tickMs, electionMs }: Pace): Finding[] {
  const { silentMs, answerMs, idleMs, bySnapshot } = times;
  const findings: Finding[] = [];
  if (lost !== undefined) findings.push(lostData(lost));
  if (catchUp.kind === "hopeless") findings.push({ verdict: "cannot_catch_up", text: catchUp.reason });
  if (silentMs >= 2 * electionMs) {
    findings.push({ verdict: "silent", text: `it has not answered the leader for ${duration(silentMs)}` });
    return findings;
  }
  const patience = (bySnapshot ? IDLE_TIMEOUTS_BY_SNAPSHOT : IDLE_TIMEOUTS) * electionMs;
  if (idleMs >= patience && lost === undefined) {
    const text = `it answers, but has accepted none of its missing entries for ${duration(idleMs)}`;
    findings.push({ verdict: "falling_behind", text });
  }
  // The leader checks for answers once a tick.
  if (answerMs >= Math.max(limits.slowMs, electionMs / 2) + 2 * tickMs) {
    const text = `its answers take ${duration(answerMs)}: its disk, or the network to it, is slow`;
    findings.push({ verdict: "slow_answers", text });
  }
  return findings;
}

function lostData({ acknowledged, has }: LostData): Finding {
  const text = `it acknowledged entries up to ${acknowledged}, and its log ends at ${has}: it has lost data`;
  return { verdict: "lost_data", text };
}

function duration(ms: number): string {
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${Math.round(ms / 1_000)} s`;
}
