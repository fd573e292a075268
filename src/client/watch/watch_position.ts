import { checkWholeNumber } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import { isId } from "../../base/ids.js";
import { limits } from "../../base/limits.js";

// A place in the history of one cluster, and its text form: a token.

/** Everything up to `through` is known; the watch goes on behind it. */
export interface WatchPosition {
  /** Empty when it is not known yet. */
  readonly clusterId: string;
  readonly through: number;
}

/** Returns a position as a token, CLUSTER:INDEX. */
export function tokenOf({ clusterId, through }: WatchPosition): string {
  return `${clusterId}:${through}`;
}

/**
 * Returns the position behind which a watch begins: that of a token, or the one before an index.
 * @throws CairnError INVALID_ARGUMENT
 */
export function positionBefore(from: string | number): WatchPosition {
  if (typeof from !== "string") return { clusterId: "", through: checkIndex(from, 1) - 1 };
  const [, clusterId = "", index = ""] = /^([^:]*):(\d{1,16})$/.exec(from) ?? [];
  if (isId(clusterId)) return { clusterId, through: checkIndex(Number(index), 0) };
  throw new CairnError("INVALID_ARGUMENT", `from must be a token of a watch or an index, not ${JSON.stringify(from)}`);
}

function checkIndex(index: number, least: number): number {
  checkWholeNumber("from", index, least);
  if (index <= limits.indexMax) return index;
  throw new CairnError("INVALID_ARGUMENT", `from must be at most ${limits.indexMax}, not ${index}`);
}
