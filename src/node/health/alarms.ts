import { type CairnError, hasCode } from "../../base/errors.js";
import type { LostData } from "../../raft/state.js";
import type { DataDirectory } from "../../storage/data_dir.js";
import type { Logger } from "../../system/logger.js";
import type { DiskFullRetry } from "../disk_full.js";
import type { NodeHost } from "../host.js";
import type { Proposals } from "../requests/proposals.js";
import { outOfRoom } from "../requests/refusals.js";
import type { AppliedWaiters } from "../requests/waiters.js";

/** The parts of a node that its alarms watch: disk room, lost data, a damaged state. */
export interface AlarmSurroundings {
  readonly logger: Logger;
  readonly directory: DataDirectory;
  readonly diskFull: DiskFullRetry;
  /** Waiting callers, which fail when the node cannot serve them. */
  readonly proposals: Pick<Proposals<unknown>, "failAll">;
  readonly waiters: Pick<AppliedWaiters, "failAll">;
  /** Called when the node has less than it acknowledged, and a note of that is durable. */
  readonly onLost: ((lost: LostData) => void) | undefined;
}

/**
 * Reports that the node ran out of room, lost data, or found its state damaged: to the log, to the
 * waiting callers and to the node's owner.
 */
export class Alarms {
  #isLostTold = false;

  constructor(
    private readonly host: NodeHost,
    private readonly surroundings: AlarmSurroundings,
  ) {}

  /**
   * Rejects a caller while there is no room.
   * @throws CairnError DISK_FULL, BUSY while nothing can be written
   */
  assertRoom(): void {
    const { shortage } = this.surroundings.diskFull;
    if (shortage !== undefined) throw outOfRoom(shortage);
  }

  /** Reports a shortage of room, or its end. */
  shortageChanged(shortage: CairnError | undefined): void {
    const { logger, proposals, waiters } = this.surroundings;
    if (shortage === undefined) {
      logger.info({}, "there is room again: accepting writes");
      return;
    }
    const what = hasCode(shortage, "DISK_FULL") ? "the disk is full" : "too many files are open";
    logger.error({ reason: shortage.text }, `${what}: refusing writes until there is room`);
    proposals.failAll(`${what}; the write is carried out when there is room again`);
    waiters.failAll(outOfRoom(shortage));
  }

  /** Reports that this node has less than it acknowledged, once the core has found that (T3). */
  look(): void {
    const { lost, membership } = this.host.raft;
    if (lost === undefined || this.#isLostTold) return;
    this.#isLostTold = true;
    const { logger, directory, diskFull, onLost } = this.surroundings;
    logger.error({ ...lost }, "this node has less than it acknowledged: it no longer votes or acknowledges");
    // A vote may be lost as well, so a restart must not make this node forget the loss.
    diskFull
      .untilRoom(() => directory.retire(membership.members))
      .then(
        () => onLost?.(lost),
        (error) => this.host.fail(error),
      );
  }

  /**
   * Ends the node when the state is found damaged: damaged state must not be served, nor become a
   * snapshot (T7).
   */
  watchMachine(damaged: AbortSignal | undefined): void {
    if (damaged?.aborted) this.host.fail(damaged.reason);
    damaged?.addEventListener("abort", () => this.host.fail(damaged.reason));
  }
}
