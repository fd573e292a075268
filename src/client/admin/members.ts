import { setTimeout as pause } from "node:timers/promises";
import type { Membership } from "../../../gen/cairn/v1/storage_pb.js";
import { hasCode } from "../../base/errors.js";
import { type ClusterMember, membersOf } from "../status.js";
import type { ClusterAdmin } from "./cluster_admin.js";

/** Pause between two attempts to promote a learner that is catching up, in milliseconds. */
const RETRY_MS = 250;

/** Returns the members as the most advanced endpoint knows them. */
export async function members(cluster: ClusterAdmin): Promise<ClusterMember[]> {
  return membersOf((await cluster.look()).newest.membership);
}

export function addLearner(cluster: ClusterAdmin, id: string, address: string): Promise<ClusterMember[]> {
  return change(cluster.onLeader((leader) => leader.addLearner({ nodeId: id, address })));
}

export function remove(cluster: ClusterAdmin, id: string): Promise<ClusterMember[]> {
  return change(cluster.onLeader((leader) => leader.removeMember({ nodeId: id })));
}

/**
 * Waits up to `waitMs` until a learner has caught up, then makes it a voter.
 * @throws CairnError FAILED_PRECONDITION when the member is not a learner, or has not caught up in
 * time
 */
export async function promote(cluster: ClusterAdmin, id: string, waitMs: number): Promise<ClusterMember[]> {
  const deadline = performance.now() + waitMs;
  for (;;) {
    try {
      return await change(cluster.onLeader((leader) => leader.promoteLearner({ nodeId: id })));
    } catch (error) {
      if (!hasCode(error, "FAILED_PRECONDITION") || performance.now() > deadline) throw error;
      // A learner will catch up; for any other member the refusal is final.
      const present = (await members(cluster)).find((member) => member.id === id);
      if (present?.role !== "learner") throw error;
    }
    await pause(RETRY_MS);
  }
}

async function change(asked: Promise<{ readonly membership?: Membership | undefined }>): Promise<ClusterMember[]> {
  return membersOf((await asked).membership);
}
