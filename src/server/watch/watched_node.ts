import { CairnError } from "../../base/errors.js";
import type { KeyValueMachine } from "../../machine/kv/key_value_machine.js";
import type { AppliedLog } from "../../node/requests/applied_log.js";

/** The part of a node that its watches read. */
export interface WatchHost {
  readonly machine: Pick<KeyValueMachine, "appliedIndex" | "history">;
  readonly appliedLog: Pick<AppliedLog, "first" | "recent" | "older" | "onAdvance">;
}

/** Returns the first index that a watch of the node can begin with. */
export function oldestIndex({ machine, appliedLog }: WatchHost): number {
  return Math.max(appliedLog.first, machine.history.since);
}

/** Returns the error of a watch that cannot be told of the changes of an index. */
export function tooMuchAtOnce(index: number): CairnError {
  const text =
    `the changes of index ${index} do not fit one message (messageBytes), and one index is never split: read the keys ` +
    "again, and watch from the index of that read on.";
  return new CairnError("OUT_OF_RANGE", text, { oldestIndex: index + 1 });
}

/** Returns the error of a watch whose history is gone. */
export function historyGone(index: number, oldest: number): CairnError {
  const text =
    `the changes from index ${index} on are no longer known here: the oldest index that works is ${oldest}. Read the keys ` +
    "again, and watch from the index of that read on.";
  return new CairnError("OUT_OF_RANGE", text, { oldestIndex: oldest });
}
