import { randomUUID } from "node:crypto";
import { checkId } from "../../base/arguments.js";
import { memberKey } from "../../base/ids.js";
import { limits } from "../../base/limits.js";
import { membershipCodec } from "../../encoding/membership.js";
import type { StateMachine } from "../../machine/state_machine.js";
import { Raft } from "../../raft/raft.js";
import { checkMembers } from "../../storage/data_dir.js";
import type { Identity } from "../../storage/identity.js";
import { nodeFileSystem } from "../../system/fs.js";
import { silentLogger } from "../../system/logger.js";
import type { NodeOptions } from "../options.js";
import type { RaftView } from "../views.js";
import { type Recovered, recover } from "./recovery.js";

/**
 * Recovers a node's data, by its options.
 * @throws CairnError as {@link recover}, INVALID_ARGUMENT for options that no node can have
 */
export async function recoverNode<Result, Machine extends StateMachine<Result>>(
  options: NodeOptions<Result, Machine>,
): Promise<Recovered<Machine>> {
  checkId(options.id, "node id");
  for (const id of [options.clusterId, options.newClusterId]) if (id !== undefined) checkId(id, "cluster id");
  return recover({
    fs: options.fs ?? nodeFileSystem,
    path: options.directory,
    nodeId: options.id,
    clusterId: options.clusterId,
    newClusterId: () => options.newClusterId ?? randomUUID(),
    members: checkMembers(options.members ?? [{ id: options.id, address: "", role: "voter" }]),
    openMachine: options.openMachine,
    trustState: options.trustState ?? true,
    segmentBytes: options.segmentBytes ?? limits.segmentBytes,
    snapshotSource: options.snapshotSource,
    logger: options.logger ?? silentLogger,
  });
}

/** Builds the core of a node from its recovered data. */
export function coreOf<Result, Machine extends StateMachine<Result>>(
  options: NodeOptions<Result, Machine>,
  { storage, start, snapshot, memberships }: Recovered<Machine>,
): Raft {
  return new Raft({
    id: memberKey({ id: options.id, incarnation: storage.directory.identity.incarnation }),
    elections: options.elections ?? "automatic",
    electionTicks: options.electionTicks ?? 10,
    heartbeatTicks: options.heartbeatTicks,
    reads: options.reads,
    limits: options.limits,
    sizes: {
      logBytes: (first, last) => storage.log.bytesBetween(first, last),
      snapshotBytes: (index) => {
        const newest = storage.snapshots.newest();
        return newest !== undefined && newest.index >= index ? newest.fileBytes : undefined;
      },
    },
    random: options.random ?? Math.random,
    codec: membershipCodec,
    hardState: storage.log.hardState,
    log: start,
    snapshot,
    memberships,
  });
}

/**
 * Returns whether a directory holds only the data that its cluster begins with: its node knows no
 * membership.
 */
export function isNewDirectory(
  { cameBy, base }: Identity,
  { log, snapshot }: Pick<RaftView, "log" | "snapshot">,
): boolean {
  const first = base?.index ?? 0;
  return cameBy !== "given" && log.last.index <= first && (snapshot?.index ?? 0) <= first;
}
