import { type CairnError, hasCode } from "../../base/errors.js";
import type { LostData } from "../../raft/state.js";
import type { DataDirectory } from "../../storage/data_dir.js";
import type { LogFacts } from "../../system/log_fields.js";
import type { Logger } from "../../system/logger.js";
import type { DiskFullRetry } from "../disk_full.js";
import type { NodeHost } from "../host.js";
import type { Proposals } from "../requests/proposals.js";
import { outOfRoom } from "../requests/refusals.js";
import type { AppliedWaiters } from "../requests/waiters.js";

/** Waiting callers, which fail when the node cannot serve them. */
export interface WaitingCallers {
  readonly proposals: Pick<Proposals<unknown>, "failAll">;
  readonly waiters: Pick<AppliedWaiters, "failAll">;
}

/** Returns a function that reports a shortage of room, or its end, to the log and the callers. */
export function shortageAlarm(
  logger: Logger,
  { proposals, waiters }: WaitingCallers,
): (shortage: CairnError | undefined) => void {
  return (shortage) => {
    if (shortage === undefined) {
      logger.info({}, "there is room again: accepting writes");
      return;
    }
    const what = hasCode(shortage, "DISK_FULL") ? "the disk is full" : "too many files are open";
    logger.error({ reason: shortage.text }, `${what}: refusing writes until there is room`);
    proposals.failAll(`${what}; the write is carried out when there is room again`);
    waiters.failAll(outOfRoom(shortage));
  };
}

/** The parts of a node that {@link LossAlarm} uses. */
export interface LossAlarmParts {
  readonly logger: Logger;
  readonly directory: Pick<DataDirectory, "retire">;
  readonly diskFull: DiskFullRetry;
  /** Called when the node has less than it acknowledged, and a note of that is durable. */
  readonly onLost: ((lost: LostData) => void) | undefined;
}

/** Reports that the node has lost data: to the log, to the directory and to the node's owner. */
export class LossAlarm {
  #isTold = false;

  constructor(
    private readonly host: NodeHost,
    private readonly parts: LossAlarmParts,
  ) {}

  /** Reports that this node has less than it acknowledged, once the core has found that (T3). */
  look(): void {
    const { lost, membership } = this.host.raft;
    if (lost === undefined || this.#isTold) return;
    this.#isTold = true;
    const { logger, directory, diskFull, onLost } = this.parts;
    const facts: LogFacts = { matchIndex: lost.acknowledged, lastIndex: lost.has };
    logger.error(facts, "this node has less than it acknowledged: it no longer votes or acknowledges");
    // A vote may be lost as well, so a restart must not make this node forget the loss.
    diskFull
      .untilRoom(() => directory.retire(membership.members))
      .then(
        () => onLost?.(lost),
        (error) => this.host.ending.fail(error),
      );
  }
}
