import { setTimeout as pause } from "node:timers/promises";
import type { Membership } from "../core/types.js";
import { CairnError } from "../errors.js";
import { membershipFromMessage } from "../storage/membership_message.js";
import { ClusterAdmin } from "./cluster_admin.js";

/** Pause between attempts to be added, in milliseconds. */
const RETRY_MS = 2_000;

/** What a node that joins is started with. */
export interface ClusterToJoin {
  readonly clusterId: string;
  readonly bootstrapMembers: Membership;
}

/**
 * Asks members of a cluster for what a new node must know.
 * @throws CairnError UNREACHABLE when none answers; FAILED_PRECONDITION when a member has this node's name: it would pose as that one
 */
export async function askToJoin(endpoints: readonly string[], id: string): Promise<ClusterToJoin> {
  const admin = new ClusterAdmin(endpoints);
  try {
    const { clusterId, bootstrapMembers, membership } = (await admin.look()).newest;
    const present = membershipFromMessage(membership).find((member) => member.id === id);
    if (present?.role === "voter") {
      const text = `${id} is a voter of cluster ${clusterId} already, at ${present.address}. A node that has lost its data must not come back`;
      throw new CairnError(
        "FAILED_PRECONDITION",
        `${text} as if it had it: remove that member first, or give another --id`,
      );
    }
    return { clusterId, bootstrapMembers: membershipFromMessage(bootstrapMembers) };
  } finally {
    admin.close();
  }
}

/**
 * Has the cluster add this node as a learner, unless it is a member already. Tries until it works or the signal is aborted;
 * `complain` is told once why it does not work at once.
 */
export async function joinCluster(
  endpoints: readonly string[],
  self: { readonly id: string; readonly address: string },
  complain: (reason: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const admin = new ClusterAdmin(endpoints);
  try {
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        return await addIfMissing(admin, self, signal);
      } catch (error) {
        if (attempt === 1 && !signal.aborted) complain(CairnError.from(error).text);
      }
      await pause(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  } finally {
    admin.close();
  }
}

function addIfMissing(
  admin: ClusterAdmin,
  { id, address }: { readonly id: string; readonly address: string },
  signal: AbortSignal,
): Promise<void> {
  return admin.onLeader(async (leader) => {
    const { membership } = await leader.getStatus({}, { signal });
    const present = membership?.members.find((member) => member.id === id);
    if (present === undefined) await leader.addLearner({ nodeId: id, address }, { signal });
    else if (present.address !== address) {
      const text = `${id} is a member already, but at ${present.address}, not at ${address}`;
      throw new CairnError(
        "FAILED_PRECONDITION",
        `${text}: remove it first, or start it with --advertise ${present.address}`,
      );
    }
  }, signal);
}
