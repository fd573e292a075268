import { type CairnError, hasCode } from "../../base/errors.js";
import type { LostData } from "../../raft/state.js";
import type { DataDirectory } from "../../storage/data_dir.js";
import type { Logger } from "../../system/logger.js";
import type { RoomKeeper } from "../disk_full.js";
import type { NodeHost } from "../host.js";
import type { Proposals } from "../requests/proposals.js";
import { outOfRoom } from "../requests/refusals.js";
import type { AppliedWaiters } from "../requests/waiters.js";

export interface AlarmSurroundings {
  readonly logger: Logger;
  readonly directory: DataDirectory;
  readonly room: RoomKeeper;
  /** Callers that are told. */
  readonly proposals: Pick<Proposals<unknown>, "failAll">;
  readonly waiters: Pick<AppliedWaiters, "failAll">;
  /** The node has less than it acknowledged; that is on the disk. */
  readonly onLost: ((lost: LostData) => void) | undefined;
}

/**
 * Tells whoever must know when the node runs out of room, loses data, or finds its state damaged.
 */
export class Alarms {
  #isLostTold = false;

  constructor(
    private readonly host: NodeHost,
    private readonly surroundings: AlarmSurroundings,
  ) {}

  /** @throws CairnError DISK_FULL, BUSY while nothing can be written */
  assertRoom(): void {
    const { shortage } = this.surroundings.room;
    if (shortage !== undefined) throw outOfRoom(shortage);
  }

  /** There is no room from now on, or there is again. */
  room(shortage: CairnError | undefined): void {
    const { logger, proposals, waiters } = this.surroundings;
    if (shortage === undefined) {
      logger.info({}, "there is room again: taking writes");
      return;
    }
    const what = hasCode(shortage, "DISK_FULL") ? "the disk is full" : "too many files are open";
    logger.error({ reason: shortage.text }, `${what}: refusing writes until there is room`);
    proposals.failAll(`${what}; the write is carried out when there is room again`);
    waiters.failAll(outOfRoom(shortage));
  }

  /** The core may have found that this node has less than it acknowledged (T3). */
  look(): void {
    const { lost, membership } = this.host.raft;
    if (lost === undefined || this.#isLostTold) return;
    this.#isLostTold = true;
    const { logger, directory, room, onLost } = this.surroundings;
    logger.error({ ...lost }, "this node has less than it acknowledged: it neither votes nor acknowledges any more");
    // The vote may be forgotten, too: a restart must not make this node forget that.
    room
      .untilRoom(() => directory.retire(membership.members))
      .then(
        () => onLost?.(lost),
        (error) => this.host.fail(error),
      );
  }

  /** A state that is not what was written must not be served, nor become a snapshot (T7). */
  watchMachine(damaged: AbortSignal | undefined): void {
    if (damaged?.aborted) this.host.fail(damaged.reason);
    damaged?.addEventListener("abort", () => this.host.fail(damaged.reason));
  }
}
