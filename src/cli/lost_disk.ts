import { setTimeout as pause } from "node:timers/promises";
import type { GetStatusResponse } from "../../gen/cairn/v1/admin_pb.js";
import type { MemberRole } from "../core/types.js";
import { CairnError } from "../errors.js";
import type { Logger } from "../node/logger.js";
import { membershipFromMessage } from "../storage/membership_message.js";
import { type AdminClient, ClusterAdmin } from "./cluster_admin.js";
import { memberList } from "./cluster_ids.js";
import { joinCluster } from "./join.js";
import { forgetRejoin, type Rejoin, readRejoin, writeRejoin } from "./rejoin_note.js";
import type { StartSettings } from "./start_settings.js";

// A node whose directory is new, though the cluster that its --cluster names has had it as a member before: its disk was lost. It must not
// go on under its name as if nothing had happened. It could vote a second time in a term, and it could help to elect a leader that lacks entries
// which it had acknowledged: a majority that counts on them has one member less than it believes.
//
// So it is removed, and comes back as a learner that is let to vote when it has the log. Both are committed by majorities that do not count it. From
// then on whoever asks for its vote either has the removal in the log, and with it all that this node has ever helped to commit; or lacks it, and
// gets no majority of the former members without one that has it and refuses. Until the removal is committed, the node does not run.

/** How long another member may take to say whether it knows this node, in milliseconds: a first start waits no longer. */
const LOOK_TIMEOUT_MS = 1_000;
/** How long to try to be removed, in milliseconds and in election timeouts: a leader that has just lost this node takes two to see it. */
const REMOVAL_PATIENCE_MS = 10_000;
const REMOVAL_PATIENCE_TIMEOUTS = 4;
const CALL_TIMEOUT_MS = 5_000;
const RETRY_MS = 250;

/** A cluster that was created with the same members and has entries. */
interface Traces {
  readonly clusterId: string;
  /** What this node is in it; undefined: no member any more. */
  readonly role: MemberRole | undefined;
}

/**
 * Finds out whether a new directory is that of a lost disk, and has the cluster remove this node then. Returns how it comes back: undefined for a
 * node that simply starts.
 * @throws CairnError FAILED_PRECONDITION when it must not start; the text says why, and what to do
 */
export async function comeBack(
  settings: StartSettings,
  isNew: boolean,
  logger: Logger,
  signal: AbortSignal,
): Promise<Rejoin | undefined> {
  const { id, data, lostDisk, derivedClusterId } = settings;
  const begun = await readRejoin(data);
  if (!isNew) return begun;
  if (derivedClusterId === undefined || lostDisk === "ignore") {
    if (begun !== undefined) await forgetRejoin(data);
    return undefined;
  }
  const admin = new ClusterAdmin(othersOf(settings));
  try {
    const traces = await findTraces(admin, settings);
    if (traces === undefined && begun === undefined) return undefined;
    if (traces === undefined)
      throw refusal(`${id} has begun to rejoin its cluster, but no other member answers`, START_OTHERS);
    const { clusterId, role } = traces;
    const what = `${data} is empty, but cluster ${clusterId} knows ${id} from before`;
    if (lostDisk === "refuse")
      throw refusal(what, "--lost-disk is set to refuse. With rejoin it comes back by itself.");
    if (role === undefined && begun === undefined) throw refusal(`${what}, and has removed it`, BRING_BACK);
    const rejoin = begun ?? { clusterId, promote: role === "voter" };
    logger.warn(
      { node: id, cluster: clusterId, role },
      "the disk was lost, or this is a late first start: leaving the cluster, to come back as a new member",
    );
    // Noted first: when this ends before it is done, it goes on at the next start.
    await writeRejoin(data, rejoin);
    await beRemoved(admin, settings, signal);
    return rejoin;
  } finally {
    admin.close();
  }
}

/** Brings a node back that {@link comeBack} had removed, and that runs: as a learner first. Tries until it works or the signal is aborted. */
export async function rejoinCluster(
  settings: StartSettings,
  { promote }: Rejoin,
  address: string,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const { id, data } = settings;
  const endpoints = othersOf(settings);
  const complain = (reason: string) => logger.warn({ node: id, reason }, "not a member again yet, trying on");
  await joinCluster(endpoints, { id, address }, complain, signal);
  if (signal.aborted) return;
  logger.warn({ node: id }, promote ? "back as a learner: votes when it has caught up" : "back as a learner");
  if (promote) await bePromoted(endpoints, id, logger, signal);
  if (!signal.aborted) await forgetRejoin(data);
}

function othersOf({ id, members, peerAddresses }: StartSettings): string[] {
  return members.filter((member) => member.id !== id).map((member) => peerAddresses[member.id] ?? member.address);
}

async function findTraces(admin: ClusterAdmin, settings: StartSettings): Promise<Traces | undefined> {
  const asked = admin.endpoints.map((address) => admin.at(address).getStatus({}, { timeoutMs: LOOK_TIMEOUT_MS }));
  const statuses = (await Promise.allSettled(asked)).flatMap((each) =>
    each.status === "fulfilled" ? [each.value] : [],
  );
  const knowing = statuses.filter((status) => isSameCluster(status, settings) && status.lastLogIndex > 0n);
  const newest = knowing.sort((a, b) => Number(b.term - a.term) || Number(b.commitIndex - a.commitIndex))[0];
  if (newest === undefined) return undefined;
  const present = membershipFromMessage(newest.membership).find((member) => member.id === settings.id);
  return { clusterId: newest.clusterId, role: present?.role };
}

/** A cluster is known by those who created it; a restored one has another id than --cluster says. */
function isSameCluster(status: GetStatusResponse, { members, clusterId }: StartSettings): boolean {
  const found = memberList(membershipFromMessage(status.bootstrapMembers));
  const isSame = found.join(",") === memberList(members).join(",");
  return isSame && (clusterId === undefined || clusterId === status.clusterId);
}

async function beRemoved(admin: ClusterAdmin, settings: StartSettings, signal: AbortSignal): Promise<void> {
  const { id, electionTicks, tickMs, healTimeoutMs } = settings;
  const enoughMs = Math.max(REMOVAL_PATIENCE_MS, REMOVAL_PATIENCE_TIMEOUTS * electionTicks * tickMs);
  const patienceMs = healTimeoutMs === 0 ? enoughMs : Math.min(enoughMs, healTimeoutMs);
  const deadline = performance.now() + patienceMs;
  for (;;) {
    try {
      return await admin.onLeader((leader) => removeUnlessActive(leader, id, signal), signal, patienceMs);
    } catch (error) {
      if (signal.aborted) throw error;
      const { code, text } = CairnError.from(error);
      // A leader was looked for long enough already.
      const isInVain = code === "NOT_LEADER" || code === "UNREACHABLE" || performance.now() > deadline;
      if (isInVain) throw refusal(`${id} has lost its data and could not be removed: ${text}`, LOST_MAJORITY);
    }
    await pause(RETRY_MS, undefined, { signal });
  }
}

async function removeUnlessActive(leader: AdminClient, id: string, signal: AbortSignal): Promise<void> {
  const settings = { signal, timeoutMs: CALL_TIMEOUT_MS };
  const { membership, progress } = await leader.getStatus({}, settings);
  if (!membershipFromMessage(membership).some((member) => member.id === id)) return;
  // Whoever runs under that name has its data.
  if (progress.some(({ nodeId, active }) => nodeId === id && active)) {
    throw new CairnError(
      "FAILED_PRECONDITION",
      `a node that runs under the name ${id} answers the leader: give another --id`,
    );
  }
  await leader.removeMember({ nodeId: id }, settings);
}

async function bePromoted(
  endpoints: readonly string[],
  id: string,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const admin = new ClusterAdmin(endpoints);
  let complained = "";
  try {
    while (!signal.aborted) {
      try {
        await admin.onLeader((leader) => promoteUnlessVoter(leader, id, signal), signal);
        logger.warn({ node: id }, "a voter again");
        return;
      } catch (error) {
        const { text } = CairnError.from(error);
        if (text !== complained && !signal.aborted) logger.info({ node: id, reason: text }, "does not vote yet");
        complained = text;
      }
      await pause(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  } finally {
    admin.close();
  }
}

async function promoteUnlessVoter(leader: AdminClient, id: string, signal: AbortSignal): Promise<void> {
  const settings = { signal, timeoutMs: CALL_TIMEOUT_MS };
  const { membership } = await leader.getStatus({}, settings);
  const present = membershipFromMessage(membership).find((member) => member.id === id);
  if (present?.role !== "voter") await leader.promoteLearner({ nodeId: id }, settings);
}

const START_OTHERS = "Start the others first.";
const BRING_BACK = "To bring it back, start it with --join and the address of a member.";
const LOST_MAJORITY =
  "A majority of the other voters must run for that: start them first. When they are lost for good, see OPERATING.md, 'A lost majority'.";

function refusal(what: string, advice: string): CairnError {
  return new CairnError("FAILED_PRECONDITION", `${what}. It must not start as if nothing were lost. ${advice}`);
}
