import { CairnError, hasCode, isShortage } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { membershipCodec } from "../../encoding/membership.js";
import { applyPrepared } from "../../machine/apply_prepared.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { LogStart } from "../../raft/log.js";
import { changeProblem } from "../../raft/membership/membership_rules.js";
import {
  INITIAL_HARD_STATE,
  type IndexedMembership,
  LOG_START,
  type LogPosition,
  type Member,
  type Membership,
  type SnapshotMeta,
} from "../../raft/types.js";
import { DAMAGED_MEMBER } from "../../storage/advice.js";
import { type DataDirectory, DataDirectory as Directory } from "../../storage/data_dir.js";
import type { Identity } from "../../storage/identity.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import { SnapshotStore } from "../../storage/snapshots/snapshot_store.js";
import { type OpenedLog, WriteAheadLog } from "../../storage/wal/wal.js";
import type { FileSystem } from "../../system/fs.js";
import type { LogFacts } from "../../system/log_fields.js";
import type { Logger } from "../../system/logger.js";
import type { MachineOpener } from "../options.js";
import { HoleError, type MissingSnapshot, type SnapshotSource, snapshotTaker, withoutHole } from "./healing.js";
import { LostDataError } from "./lost_data.js";
import { pointInState, type StartingPoint } from "./starting_point.js";
import type { NodeStorage } from "./storage.js";

/** Options for bringing a node back from its disk: snapshot, log and state. */
export interface RecoveryOptions<Machine> {
  readonly fs: FileSystem;
  readonly path: string;
  readonly nodeId: string;
  readonly clusterId: string | undefined;
  readonly newClusterId: () => string;
  readonly members: Membership;
  readonly openMachine: MachineOpener<Machine>;
  readonly trustState: boolean;
  readonly segmentBytes: number;
  readonly snapshotSource: SnapshotSource | undefined;
  readonly logger: Logger;
}

/** Reports how a node's state was recovered at its start. */
export interface RecoveryReport {
  /** Index of the newest good snapshot; 0 without one. */
  readonly snapshotIndex: number;
  /** Whether the state was loaded from that snapshot; otherwise the state on disk was kept. */
  readonly stateRebuilt: boolean;
  /** Entries applied during the start. */
  readonly replayedEntries: number;
  /** Bytes of a half-written record that were cut from the log's end. */
  readonly tornBytes: number;
}

export interface Recovered<Machine extends StateMachine> {
  readonly storage: NodeStorage<Machine>;
  readonly start: LogStart;
  /** The newest snapshot, or the position in the state that stands in for a lost one. */
  readonly snapshot: LogPosition | undefined;
  /**
   * The membership in force at the snapshot (or at the log's start), then those set by later
   * entries.
   */
  readonly memberships: readonly IndexedMembership[];
  readonly report: RecoveryReport;
}

/**
 * Recovers a node from its disk, or creates a new one: loads the newest snapshot, then applies the
 * log behind it up to the known commit index. Uses the state on disk when it may be trusted.
 * Repairs the results of a crash (a torn record; a snapshot that was published before log and state
 * were switched). Refuses anything else that does not fit together, with the file's name and
 * advice.
 * @throws CairnError DATA_DIRECTORY, CORRUPT, DISK_FULL
 */
export async function recover<Machine extends StateMachine>(
  options: RecoveryOptions<Machine>,
): Promise<Recovered<Machine>> {
  const { logger } = options;
  const directory = await Directory.open({ ...options, say: (text) => logger.warn({}, text) });
  const opened: { crash(): Promise<void> }[] = [];
  try {
    const { log, tornBytes, configurations } = await openLog(options, directory);
    opened.push(log);
    const snapshots = await SnapshotStore.open({
      fs: options.fs,
      directory: directory.snapshots,
      clusterId: directory.identity.clusterId,
      base: directory.identity.base,
      checkPayload: options.openMachine.checkPayload,
      logger: options.logger,
    });
    const known = () => knownMembers(directory, log, snapshots, configurations);
    await checkStopMark(directory, log, known);
    const completed = directory.identity.complete ? directory : await directory.complete();
    const { clusterId } = completed.identity;
    const place = { directory: directory.state, trustDisk: options.trustState, clusterId };
    const machine = await options.openMachine(place);
    opened.push(machine);
    if (machine.rebuildReason !== undefined && directory.identity.complete) {
      const text = "the state on disk is not used: rebuilding it from snapshot and log";
      options.logger.warn({ reason: machine.rebuildReason }, text);
    }
    const storage = { directory: completed, log, snapshots, machine };
    const begin = async () => {
      await finishInstall(storage, options.logger, known);
      const stateRebuilt = await restoreState(storage, known);
      return { stateRebuilt, point: await startingPoint(storage, configurations, options.logger) };
    };
    const { stateRebuilt, point } = await withoutHole(
      begin,
      options.snapshotSource,
      (refusal) => missingSnapshot(directory, log, snapshots, configurations, refusal),
      snapshotTaker(snapshots, log),
    );
    const { snapshot, membership } = point;
    const commit = Math.max(Math.min(log.hardState.commit, log.last.index), snapshot?.index ?? 0, machine.appliedIndex);
    const replayedEntries = await replay(storage, commit);
    const applied = machine.appliedIndex;
    // A crash may have come between publishing a snapshot and removing an older one.
    await snapshots.retain();
    return {
      storage,
      snapshot,
      memberships: await membershipsFrom(membership, storage, snapshot, configurations),
      start: {
        boundary: log.boundary,
        ranges: log.termRanges(),
        lastIndex: log.last.index,
        tail: await readAll(log, applied + 1, log.last.index),
        commit,
        applied,
      },
      report: { snapshotIndex: snapshots.newest()?.index ?? 0, stateRebuilt, replayedEntries, tornBytes },
    };
  } catch (error) {
    // Errors of closing are ignored: the first error is the one to report.
    for (const part of opened.reverse()) await part.crash().catch(() => {});
    await directory.close().catch(() => {});
    throw error;
  }
}

async function openLog(options: RecoveryOptions<unknown>, directory: DataDirectory): Promise<OpenedLog> {
  const { fs, segmentBytes, logger } = options;
  const where = { fs, directory: directory.log, segmentBytes };
  if (!directory.identity.complete) {
    const log = await WriteAheadLog.create(where, LOG_START, INITIAL_HARD_STATE);
    return { log, tornBytes: 0, configurations: [] };
  }
  const opened = await WriteAheadLog.open(where);
  if (opened.tornBytes > 0) logger.warn({ bytes: opened.tornBytes }, "cut a half-written record from the log's end");
  return opened;
}

/** T3: checks that a log that was closed cleanly does not end before the index noted then. */
async function checkStopMark(
  directory: DataDirectory,
  log: WriteAheadLog,
  known: () => Promise<Membership>,
): Promise<void> {
  const acknowledged = await directory.takeStopMark();
  if (acknowledged === undefined || log.last.index >= acknowledged) return;
  const text = `the log in ${directory.log} ends at index ${log.last.index}, but ended at ${acknowledged} when the node last stopped: it has lost`;
  const lost = { acknowledged, has: log.last.index };
  throw new LostDataError(`${text} entries that it may have acknowledged. ${DAMAGED_MEMBER}`, lost, await known());
}

/**
 * Returns the position at which the node starts: at its newest snapshot if the log continues from
 * it without a hole (R9), otherwise in the state that fills the hole.
 * @throws HoleError
 */
async function startingPoint<Machine extends StateMachine>(
  { directory, log, snapshots, machine }: NodeStorage<Machine>,
  configurations: readonly number[],
  logger: Logger,
): Promise<StartingPoint> {
  const newest = snapshots.newest();
  const covered = newest?.index ?? 0;
  if (log.boundary.index <= covered) {
    const snapshot = newest && { index: newest.index, term: newest.term };
    return { snapshot, membership: membershipAtBase(directory.identity, newest) };
  }
  const membershipAt = async (index: number) => ({ index, members: await configurationAt(log, index) });
  const point = await pointInState(
    log,
    headersOf(snapshots, directory.identity),
    machine.appliedIndex,
    configurations,
    membershipAt,
  );
  if (point === undefined) throw hole(snapshots, log, covered);
  const { appliedIndex } = machine;
  const facts: LogFacts = { snapshotIndex: covered, firstIndex: log.boundary.index + 1, appliedIndex };
  logger.warn(facts, "the newest snapshot is lost or damaged: starting from the state, which is whole");
  return point;
}

/** T1: returns the headers of damaged snapshots whose membership may be believed. */
function headersOf(snapshots: SnapshotStore, { base }: Identity): SnapshotMeta[] {
  const headers = snapshots.damaged().flatMap(({ meta }) => (meta === undefined ? [] : [meta]));
  return headers.filter(({ index }) => base === undefined || index > base.index);
}

function hole(snapshots: SnapshotStore, log: WriteAheadLog, covered: number): HoleError {
  const damaged = snapshots.damaged().map(({ path, reason }) => `${path} (${reason})`);
  const hint = damaged.length > 0 ? ` Not usable: ${damaged.join("; ")}.` : "";
  return new HoleError(
    "CORRUPT",
    `there is a hole between the newest good snapshot, which ends at index ${covered}, and the log, which starts at index ` +
      `${log.boundary.index + 1}: a snapshot file is missing.${hint} ${DAMAGED_MEMBER}`,
  );
}

async function missingSnapshot(
  directory: DataDirectory,
  log: WriteAheadLog,
  snapshots: SnapshotStore,
  configurations: readonly number[],
  refusal: CairnError,
): Promise<MissingSnapshot> {
  const { clusterId, nodeId } = directory.identity;
  const members = await knownMembers(directory, log, snapshots, configurations);
  return { nodeId, clusterId, leastIndex: log.boundary.index, members, refusal };
}

/** Returns all members that the disk knows of, each with its newest address. */
async function knownMembers(
  directory: DataDirectory,
  log: WriteAheadLog,
  snapshots: SnapshotStore,
  configurations: readonly number[],
): Promise<Membership> {
  const known = new Map(directory.identity.members.map((member) => [member.id, member]));
  const headers = snapshots.damaged().flatMap(({ meta }) => (meta === undefined ? [] : [meta]));
  const ascending = [...headers, ...snapshots.list()].sort((a, b) => a.index - b.index);
  for (const { membership } of ascending) addMembers(known, membership.members);
  // Skip entries that went when the log was made to start at a snapshot: that snapshot has their
  // membership.
  const present = configurations.filter((index) => index > log.boundary.index && index <= log.last.index);
  for (const index of present) addMembers(known, await configurationAt(log, index));
  return [...known.values()];
}

/** Adds members; for a known id, the newer address wins. */
function addMembers(known: Map<string, Member>, members: Membership): void {
  for (const member of members) known.set(member.id, member);
}

/**
 * Finishes an installation that a crash has interrupted between publishing the snapshot and making
 * the log start at it (R4 and R8).
 */
async function finishInstall<Machine extends StateMachine>(
  storage: NodeStorage<Machine>,
  logger: Logger,
  known: () => Promise<Membership>,
): Promise<void> {
  const { log, snapshots, machine } = storage;
  const snapshot = snapshots.newest();
  if (snapshot === undefined || snapshot.index < log.boundary.index) return;
  if (log.termAt(snapshot.index) === snapshot.term) return;
  // The log is about to be discarded for this snapshot.
  if (machine.appliedIndex > snapshot.index) throw await lostEntries(storage, snapshot.index, known);
  if (!(await isGood(snapshots, snapshot))) return finishInstall(storage, logger, known);
  const facts: LogFacts = { snapshotIndex: snapshot.index, lastIndex: log.last.index };
  logger.warn(facts, "finishing the installation of a snapshot");
  const { hardState } = log;
  await log.reset(snapshot, {
    ...hardState,
    term: Math.max(hardState.term, snapshot.term),
    vote: hardState.term < snapshot.term ? undefined : hardState.vote,
    commit: snapshot.index,
  });
}

/** Returns whether a snapshot is good. A damaged one is dropped from the list of snapshots. */
async function isGood(snapshots: SnapshotStore, info: SnapshotInfo): Promise<boolean> {
  try {
    await snapshots.verify(info);
    return true;
  } catch (error) {
    if (!hasCode(error, "CORRUPT")) throw error;
    return false;
  }
}

async function lostEntries<Machine extends StateMachine>(
  { directory, machine }: NodeStorage<Machine>,
  has: number,
  known: () => Promise<Membership>,
): Promise<LostDataError> {
  return new LostDataError(
    `the state in ${directory.state} has applied index ${machine.appliedIndex}, but the log in ${directory.log} ends at ` +
      `${has}: the log has lost entries. ${DAMAGED_MEMBER}`,
    { acknowledged: machine.appliedIndex, has },
    await known(),
  );
}

/** Returns whether the state was loaded from a snapshot. */
async function restoreState<Machine extends StateMachine>(
  storage: NodeStorage<Machine>,
  known: () => Promise<Membership>,
): Promise<boolean> {
  const { snapshots, log, machine } = storage;
  if (machine.appliedIndex > log.last.index) throw await lostEntries(storage, log.last.index, known);
  const newest = snapshots.newest();
  const covered = newest?.index ?? 0;
  if (log.boundary.index > Math.max(covered, machine.appliedIndex)) throw hole(snapshots, log, covered);
  if (newest === undefined || machine.appliedIndex >= newest.index) return false;
  // A state that is older than the snapshot is kept when the log leads on from it.
  if (machine.appliedIndex > 0 && machine.appliedIndex >= log.boundary.index) return false;
  // An older snapshot serves as well when the log still reaches back to it.
  const usable = snapshots.list().filter((info) => info.index >= log.boundary.index);
  for (const info of usable) {
    try {
      await machine.restore(snapshots.openPayload(info), info);
      return true;
    } catch (error) {
      if (!hasCode(error, "CORRUPT")) throw error;
    }
  }
  if (log.boundary.index <= machine.appliedIndex) return false;
  throw hole(snapshots, log, snapshots.newest()?.index ?? 0);
}

/**
 * Applies committed entries that are not applied yet, as far as the disk has room: the node applies
 * the rest once there is room. Returns the number of entries.
 */
async function replay<Machine extends StateMachine>(
  { log, machine }: NodeStorage<Machine>,
  commit: number,
): Promise<number> {
  const from = machine.appliedIndex;
  try {
    while (machine.appliedIndex < commit) {
      await applyPrepared(machine, await log.entries(machine.appliedIndex + 1, commit, limits.applyBytes));
    }
  } catch (error) {
    if (!isShortage(error)) throw error;
  }
  return machine.appliedIndex - from;
}

/** Returns `first`, and the memberships set by entries behind the snapshot. */
async function membershipsFrom<Machine extends StateMachine>(
  first: IndexedMembership,
  { log, directory }: NodeStorage<Machine>,
  snapshot: LogPosition | undefined,
  configurations: readonly number[],
): Promise<IndexedMembership[]> {
  const memberships = [first];
  for (const index of configurations) {
    // Skip entries that went with the rest of the log when the installation of the snapshot was
    // finished.
    if (index <= (snapshot?.index ?? 0) || index > log.last.index) continue;
    const members = await configurationAt(log, index);
    const problem = changeProblem(memberships.at(-1)!.members, members);
    if (problem !== undefined) {
      const text = `entry ${index} of the log in ${directory.log} is not a legal change of the membership: ${problem}`;
      throw new CairnError("CORRUPT", `${text}. ${DAMAGED_MEMBER}`);
    }
    memberships.push({ index, members });
  }
  return memberships;
}

/**
 * T1: returns the membership at the base of the log. A directory that has drawn its incarnation
 * believes only a list of members in its log, or in a snapshot of its cluster.
 */
function membershipAtBase({ cameBy, members, base }: Identity, snapshot: SnapshotInfo | undefined): IndexedMembership {
  const isOfCluster = snapshot !== undefined && (base === undefined || snapshot.index > base.index);
  if (isOfCluster) return snapshot.membership;
  return { index: 0, members: cameBy === "given" ? members : [] };
}

async function configurationAt(log: WriteAheadLog, index: number): Promise<Membership> {
  const [entry] = await log.entries(index, index, limits.entryBytes);
  return membershipCodec.decode(entry!.data);
}

async function readAll(log: WriteAheadLog, first: number, last: number) {
  const entries = [];
  while (first + entries.length <= last) {
    entries.push(...(await log.entries(first + entries.length, last, limits.appendBytes)));
  }
  return entries;
}
