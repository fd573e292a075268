import { CairnError } from "../../base/errors.js";
import type { LostData } from "../../raft/state.js";
import type { Membership } from "../../raft/types.js";

/**
 * A directory holds less than its node acknowledged (T3). The node must not take part in its
 * cluster with it: a vote may be forgotten, too. It may come back with a new directory, as a new
 * incarnation, while a majority of the others runs.
 */
export class LostDataError extends CairnError {
  constructor(
    text: string,
    readonly lost: LostData,
    /** The members, as far as what is left on the disk says. */
    readonly members: Membership,
  ) {
    super("CORRUPT", text);
  }
}
