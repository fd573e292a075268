import {
  checkFlag,
  checkFunction,
  checkMethods,
  checkNumber,
  checkObject,
  checkOneOf,
  checkText,
  checkWholeNumber,
  invalid,
} from "../base/arguments.js";
import type { StateMachine } from "../machine/state_machine.js";
import type { MembershipChange } from "../raft/membership/membership_change.js";
import type { Member } from "../raft/types.js";
import type { NodeOptions } from "./options.js";
import type { SnapshotRequest } from "./snapshots/compaction.js";
import type { SnapshotPolicy } from "./snapshots/scheduler.js";

/**
 * Checks the options of a node before anything is written to disk. Characters of names are checked
 * where the names are used.
 */
export function checkNodeOptions<Result, Machine extends StateMachine<Result>>(
  options: NodeOptions<Result, Machine>,
): void {
  checkObject("options", options);
  checkText("id", options.id);
  checkText("directory", options.directory);
  checkFunction("openMachine", options.openMachine);
  ifGiven(options, "clusterId", checkText);
  ifGiven(options, "newClusterId", checkText);
  ifGiven(options, "members", checkMemberList);
  ifGiven(options, "elections", (what, value) => checkOneOf(what, value, ["automatic", "manual"]));
  ifGiven(options, "reads", (what, value) => checkOneOf(what, value, ["quorum", "lease"]));
  ifGiven(options, "snapshotCompression", (what, value) => checkOneOf(what, value, ["deflate"]));
  ifGiven(options, "tickMs", checkAboveZero);
  for (const name of ["electionTicks", "heartbeatTicks", "snapshotChunkBytes", "segmentBytes"] as const) {
    ifGiven(options, name, (what, value) => checkWholeNumber(what, value, 1));
  }
  ifGiven(options, "snapshotBandwidth", checkAboveZero);
  for (const name of ["transferResumeMs", "trailingLogBytes", "pinnedLogBytes"] as const) {
    ifGiven(options, name, (what, value) => checkNumber(what, value, 0));
  }
  if (options.snapshots !== false) ifGiven(options, "snapshots", checkPolicy);
  ifGiven(options, "limits", checkObject);
  ifGiven(options, "peerAddresses", checkObject);
  ifGiven(options, "fs", checkObject);
  ifGiven(options, "trustState", checkFlag);
  for (const name of ["transport", "snapshotSource", "unixMs", "random", "onTurn", "onFatal"] as const) {
    ifGiven(options, name, checkFunction);
  }
  ifGiven(options, "clock", (what, value) => checkMethods(what, value, ["now", "after", "soon"]));
  ifGiven(options, "logger", (what, value) => checkMethods(what, value, ["debug", "info", "warn", "error"]));
}

/**
 * Checks a request for a snapshot.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkSnapshotRequest(request: SnapshotRequest): void {
  checkObject("request", request);
  for (const name of ["thresholdEntries", "index", "keepLogBytes"] as const) {
    ifGiven(request, name, (what, value) => checkNumber(what, value, 0));
  }
}

/** All types of change. The compiler reports a missing one. */
const CHANGES: Readonly<Record<MembershipChange["type"], true>> = {
  add_learner: true,
  promote: true,
  remove: true,
  join: true,
};

/**
 * Checks a change of the membership.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkMembershipChange(change: MembershipChange): void {
  checkObject("change", change);
  checkOneOf("change.type", change.type, Object.keys(CHANGES) as (keyof typeof CHANGES)[]);
  checkText("change.id", change.id, 0);
  if (change.type === "add_learner" || change.type === "join") checkText("change.address", change.address, 0);
  if (change.type === "join") checkOneOf("change.cameBy", change.cameBy, ["cluster", "join"]);
}

function ifGiven<Options extends object, Name extends keyof Options & string>(
  options: Options,
  name: Name,
  check: (what: string, value: NonNullable<Options[Name]>) => unknown,
): void {
  const value = options[name];
  if (value !== undefined) check(name, value as NonNullable<Options[Name]>);
}

function checkMemberList(what: string, members: readonly Member[]): void {
  if (!Array.isArray(members)) throw invalid(what, "a list of { id, address, role }", members);
  for (const member of members) {
    checkObject("member", member);
    checkText("member.id", member.id);
    checkText("member.address", member.address, 0);
    checkOneOf("member.role", member.role, ["voter", "learner"]);
  }
}

function checkPolicy(what: string, policy: SnapshotPolicy | false): void {
  if (policy === false) return;
  checkObject(what, policy);
  for (const name of ["entries", "logBytes", "logRatio", "ageMs"] as const) {
    if (policy[name] !== undefined && policy[name] !== false) checkAboveZero(`${what}.${name}`, policy[name]);
  }
}

function checkAboveZero(what: string, value: number): void {
  checkNumber(what, value, Number.MIN_VALUE, "above 0");
}
