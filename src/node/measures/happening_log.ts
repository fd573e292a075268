import type { Logger } from "../../system/logger.js";
import type { TimelineEntry } from "./happenings.js";

/**
 * Writes the happenings to the log that have no line of their own: elections and changes of the
 * membership.
 */
export function logHappening(logger: Logger, entry: TimelineEntry): void {
  if (entry.kind === "leader") {
    const { leader, term, role } = entry;
    logger.info({ leader, term, role }, leader === "" ? "no leader is known" : "another leader is known");
  } else if (entry.kind === "membership" && entry.members.length > 0) {
    const { index, members } = entry;
    logger.info({ index, members }, "a membership is in force");
  }
}
