import { CommandOutcome } from "../../../gen/cairn/v1/storage_pb.js";
import { memberKey } from "../../../src/base/ids.js";
import { limits } from "../../../src/base/limits.js";
import { encodeCommand } from "../../../src/machine/kv/command.js";
import type { Membership } from "../../../src/raft/types.js";
import { checkLinearizable, describe as describeVerdict } from "../../support/history/linearizability.js";
import type { Nemesis } from "../faults/nemesis.js";
import type { SimCluster } from "../world/cluster.js";
import type { SimNode } from "../world/node.js";
import { payloadOf } from "../world/observed_machine.js";
import { demand, Violation } from "./checkers/checker.js";

/** Within so many ticks after the last trouble all members have the same state, and with it a write that came after. */
export const HEALING_TICKS = 300;
/** The same where lost members come back by themselves, one after the other, and clusters are founded. */
const HEALING_TICKS_OF_DRAWN = 900;
const TICK_MS = 100;

/** Within so many ticks leases end that nobody keeps alive; clocks may run slowly, and a leader may change once more. */
const LEASE_TICKS = 150;

/** Within so many ticks after the cluster has come to rest, all who watch know all. */
const WATCH_TICKS = 60;

/**
 * Within so many ticks a write succeeds although the leader's disk is stuck: noticed, handed over
 * or stepped down, and elected.
 */
const STUCK_TICKS = 80;

/** Ends all troubles; then the cluster must elect, commit, and converge. Then all that can only be checked at the end is checked. */
export async function heal(cluster: SimCluster, nemesis: Nemesis): Promise<void> {
  const { scheduler } = cluster;
  nemesis.end();
  for (const client of [...cluster.clients, ...cluster.leaseClients]) client.stop();
  const deadline = scheduler.nowMs + ticksOf(cluster) * TICK_MS;
  if (cluster.isDrawn) nemesis.caretaker.heal();
  try {
    await converge(cluster, deadline);
  } catch (error) {
    if (!(error instanceof PastSaving)) throw error;
    cluster.count("left as it is: no rule saves the cluster");
  }
  await cluster.checks.finished(membersOf(cluster));
  checkHistory(cluster);
}

async function converge(cluster: SimCluster, deadline: number): Promise<void> {
  const { scheduler } = cluster;
  await writeAndConverge(cluster, deadline);
  cluster.count("healed");
  if (cluster.weather.leases !== undefined) await outliveLeases(cluster);
  await outliveStuckDisk(cluster);
  await writeAndConverge(cluster, scheduler.nowMs + HEALING_TICKS * TICK_MS);
  // What a transfer held on to goes with the next snapshot.
  await Promise.allSettled(membersOf(cluster).map(({ cairn }) => cairn!.takeSnapshot({})));
  await rest(cluster, scheduler.nowMs + HEALING_TICKS * TICK_MS);
  await untilWatchesKnowAll(cluster);
  const members = membersOf(cluster);
  await compareStates(members);
  checkBounds(cluster, members);
}

/** The cluster has lost what no rule saves: its members may contradict each other for ever. */
class PastSaving extends Error {}

function demandSavable({ main, checks }: SimCluster): void {
  if (main !== undefined && checks.isExcused(main)) throw new PastSaving();
}

function ticksOf({ isDrawn }: SimCluster): number {
  return isDrawn ? HEALING_TICKS_OF_DRAWN : HEALING_TICKS;
}

async function writeAndConverge(cluster: SimCluster, deadline: number): Promise<void> {
  let isWritten = false;
  for (let turn = 1; !isWritten || !isConverged(cluster); turn++) {
    if (!isWritten) isWritten = await write(cluster, turn);
    await tick(cluster, deadline);
  }
}

/** With a leader, and nobody who keeps them alive, all leases end soon, and their keys with them. */
async function outliveLeases(cluster: SimCluster): Promise<void> {
  const { scheduler } = cluster;
  const deadline = scheduler.nowMs + LEASE_TICKS * TICK_MS;
  for (;;) {
    const machine = cluster.leader?.cairn?.machine;
    if (machine?.leaseCount === 0) return;
    demandSavable(cluster);
    for (const node of cluster.nodes) node.start();
    demand(scheduler.nowMs < deadline, `no lease lives for more than ${LEASE_TICKS} ticks without its owner`, {
      ...describeCluster(cluster),
      leases: machine?.leases(0, 10),
    });
    await scheduler.sleep(TICK_MS, "looks whether leases have ended");
  }
}

/**
 * T8: with one disk stuck, the leader's, the cluster goes on to take writes, and the node says what
 * is the matter.
 */
async function outliveStuckDisk(cluster: SimCluster): Promise<void> {
  const { leader, scheduler } = cluster;
  const voters = membership(cluster).filter(({ role }) => role === "voter");
  const isEnough = () =>
    voters.filter(({ id }) => id !== leader?.id && cluster.node(id)?.isUp === true).length > voters.length / 2;
  if (leader === undefined || !isEnough()) return;
  cluster.note(`the disk of ${leader.id}, which leads, is stuck`);
  leader.disk.hang();
  let startedMs = scheduler.nowMs;
  let isWritten = false;
  for (let turn = 1; !isWritten; turn++) {
    // A failure that was arranged during the troubles may still come.
    for (const node of cluster.nodes) node.start();
    if (!isEnough()) startedMs = scheduler.nowMs;
    if (voters.some(({ id }) => cluster.node(id)?.isGone === true)) break;
    demandSavable(cluster);
    const isInTime = scheduler.nowMs < startedMs + STUCK_TICKS * TICK_MS;
    demand(isInTime, `one stuck disk stops writes for no longer than ${STUCK_TICKS} ticks`, describeCluster(cluster));
    isWritten = await write(cluster, -turn);
    await scheduler.sleep(TICK_MS, "looks whether writes go on");
  }
  const own = leader.cairn?.fitness.health.find(({ id }) => id === leader.id);
  if (isWritten && own !== undefined && leader.isPaused) {
    cluster.count("a leader that a direct call on a stuck disk held up was replaced");
  } else if (isWritten && own !== undefined) {
    cluster.count("a leader with a stuck disk was replaced");
    demand(own.verdict === "stuck_disk", "a node says that its disk is stuck", { node: leader.id, own });
  }
  leader.disk.goOn();
}

/** Those who watch may read slowly. What they still lack after this time is reported in the end. */
async function untilWatchesKnowAll({ checks, scheduler }: SimCluster): Promise<void> {
  const deadline = scheduler.nowMs + WATCH_TICKS * TICK_MS;
  while (!checks.watchesKnowAll && scheduler.nowMs < deadline) {
    await scheduler.sleep(TICK_MS, "looks whether watches know all");
  }
}

/** Until nothing changes any more: the last requests of clients, snapshots and trims. */
async function rest(cluster: SimCluster, deadline: number): Promise<void> {
  for (let calm = 0; calm < 5; calm++) {
    await tick(cluster, deadline);
    if (!isConverged(cluster)) calm = 0;
  }
}

async function tick(cluster: SimCluster, deadline: number): Promise<void> {
  const { scheduler } = cluster;
  demandSavable(cluster);
  const isInTime = scheduler.nowMs < deadline;
  demand(isInTime, `the cluster converges within ${ticksOf(cluster)} ticks`, describeCluster(cluster));
  for (const node of cluster.nodes) node.start();
  await scheduler.sleep(TICK_MS, "looks whether the cluster has converged");
}

/** A write of whoever has no session. Returns whether it is committed. */
async function write({ leader, scheduler }: SimCluster, turn: number): Promise<boolean> {
  const node = leader?.cairn;
  if (node === undefined) return false;
  const value = Buffer.from(`healed-${turn}`);
  const data = encodeCommand({ operation: { case: "put", value: { key: Buffer.from("healed"), value } } });
  const controller = new AbortController();
  // Of no place: a disk that is stuck may hold the leader's whole process up.
  scheduler.after(10 * TICK_MS, undefined, "the last write is given up", () => controller.abort());
  try {
    const { result } = await node.propose(data, controller.signal);
    return result.outcome === CommandOutcome.OK;
  } catch {
    return false;
  }
}

function membership({ leader }: SimCluster): Membership {
  return leader?.cairn?.raft.membership.members ?? [];
}

/** Members whose data is to be trusted. */
function membersOf(cluster: SimCluster): SimNode[] {
  return membership(cluster).flatMap(({ id }) => {
    const node = cluster.node(id);
    return node === undefined || node.damage !== undefined ? [] : [node];
  });
}

function isConverged(cluster: SimCluster): boolean {
  const { leader } = cluster;
  if (leader === undefined) return false;
  const { log, progress, membership: inForce } = leader.cairn!.raft;
  if (cluster.isDrawn && !isWhole(cluster, inForce.members)) return false;
  if (cluster.network.installs > 0) return false;
  const isStuck = progress.some(({ id, state }) => state !== "replicate" && cluster.node(id)?.damage === undefined);
  return (
    !isStuck &&
    log.commit === log.last.index &&
    membersOf(cluster).every(({ cairn }) => {
      return (
        cairn !== undefined && cairn.raft.log.applied === log.last.index && cairn.raft.log.last.index === log.last.index
      );
    })
  );
}

/** T4: all members are there, under the incarnation that the membership knows, and all vote that are to vote. */
function isWhole(cluster: SimCluster, members: Membership): boolean {
  const areThere = members.every((member) => {
    const isThere = cluster.node(member.id)?.key === memberKey(member);
    return isThere && member.wantsVote !== true;
  });
  const vote = ({ id }: { id: string }) => members.some((member) => member.id === id && member.role === "voter");
  return areThere && cluster.founders.every((founder) => cluster.removals.has(founder.id) || vote(founder));
}

async function compareStates(members: readonly SimNode[]): Promise<void> {
  const states = await Promise.all(members.map(({ cairn }) => payloadOf(cairn!.machine)));
  const indexes = states.map(({ index }) => index);
  const isSame = states.every(({ payload }) => Buffer.compare(payload, states[0]!.payload) === 0);
  demand(isSame, "all members have the same state in the end", { members: members.map(({ id }) => id), indexes });
}

/** At rest, nothing has grown without bounds. */
function checkBounds(cluster: SimCluster, members: readonly SimNode[]): void {
  const { segmentBytes, trailingLogBytes, snapshots, limits: bounds } = cluster.weather.node;
  const entries = (snapshots !== false && snapshots?.entries) || 0;
  for (const { id, cairn, disk } of members) {
    const { raft, logStats, transfers } = cairn!;
    const { log } = raft;
    const files = disk.fs.names(`${disk.directory}/snapshots`);
    const facts = { node: id, files, log: logStats, window: log.windowBytes, last: log.last, snapshot: raft.snapshot };
    const damaged = cairn!.snapshots.damaged().length;
    demand(transfers.length === 0, "at rest, nothing is being sent", { ...facts, transfers });
    demand(!files.some((name) => name.endsWith(".part")), "at rest, nothing half-written is left", facts);
    demand(files.length <= limits.snapshotsKept + 1 + damaged, "few snapshots are kept", facts);
    demand(
      log.windowBytes <= (bounds?.windowBytes ?? limits.windowBytes),
      "memory holds a bounded part of the log",
      facts,
    );
    // The log reaches back to the second newest snapshot. What came while the last one was being taken counts for the next one; and a segment holds a whole batch, which may be all that a
    // member has caught up with at once.
    const second = cairn!.snapshots.list()[1]?.index;
    const behind = log.last.index - (second ?? log.boundary.index);
    const entryBytes = cluster.weather.clients.valueBytes + 200;
    const most =
      (trailingLogBytes ?? 0) + (behind + 3 * entries) * entryBytes + 3 * (segmentBytes! + limits.segmentReserveBytes);
    // One entry that is still wanted keeps the whole segment that it is in, and that may hold a large batch.
    const oldest = disk.fs.names(`${disk.directory}/wal`).toSorted()[0];
    const oldestBytes = oldest === undefined ? 0 : disk.fs.contents(`${disk.directory}/wal/${oldest}`).byteLength;
    demand(logStats.diskBytes - oldestBytes <= most, "the log on disk is bounded", { ...facts, most, oldestBytes });
  }
}

function checkHistory(cluster: SimCluster): void {
  for (const clusterId of cluster.checks.ids) {
    if (!cluster.checks.isExcused(clusterId)) checkHistoryOf(cluster, clusterId);
  }
}

function checkHistoryOf(cluster: SimCluster, clusterId: string): void {
  const history = cluster.clients.flatMap((client) => client.history(clusterId));
  if (history.length === 0) return;
  if (process.env.HISTORY)
    for (const o of [...history].sort((a, b) => a.call - b.call))
      cluster.note(JSON.stringify(o).replaceAll(/\.{4,}/g, "..."));
  const verdict = checkLinearizable(history);
  if (verdict.outcome === "violation")
    throw new Violation("reads and writes are linearizable", {
      found: describeVerdict(verdict).replaceAll(/\.{4,}/g, "..."),
    });
  cluster.count(verdict.outcome === "ok" ? "history linearizable" : "history undecided");
}

function describeCluster(cluster: SimCluster): Readonly<Record<string, unknown>> {
  const nodes = cluster.nodes.map(({ key: id, state, cairn, damage, isGone, isTurnedAway }) => {
    if (cairn === undefined)
      return `${id} ${state}${isGone ? " gone" : ""}${isTurnedAway ? " turned away" : ""}${damage === undefined ? "" : ` (${damage})`}`;
    const { role, term, log, progress, snapshot, isInstalling } = cairn.raft;
    const peers = progress.map((each) => `${each.id} ${each.state} match ${each.match} next ${each.next}`).join(", ");
    const full = cairn.isDiskFull ? " disk full" : "";
    return `${id} ${role} ${term} boundary ${log.boundary.index} snapshot ${snapshot?.index} applied ${log.applied} commit ${log.commit} last ${log.last.index}${isInstalling ? " installing" : ""}${full} ${peers}`;
  });
  const members = membership(cluster).map((member) => `${memberKey(member)} ${member.role} ${member.wantsVote ?? ""}`);
  return { main: cluster.main, members, removals: [...cluster.removals], nodes };
}
