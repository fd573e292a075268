import { CairnError } from "../../base/errors.js";
import type { LostData } from "../../raft/state.js";
import type { Membership } from "../../raft/types.js";

/**
 * Thrown when a directory holds less than its node acknowledged (T3). The node must not take part
 * in its cluster with this directory, since a vote may be lost as well. It may return with a new
 * directory, as a new incarnation, while a majority of the other members runs.
 */
export class LostDataError extends CairnError {
  constructor(
    text: string,
    readonly lost: LostData,
    /** The members known from the rest of the disk. */
    readonly members: Membership,
  ) {
    super("CORRUPT", text);
  }
}
