import { tmpdir } from "node:os";
import { parseArgs } from "node:util";

const GiB = 1024 * 1024 * 1024;
const KEY_BYTES = 16;

/** Before anything is measured. */
export const WARM_UP_MS = 2_000;
/** Without a snapshot, writes are measured for so long in each round, at least. */
export const QUIET_MS = 4_000;

/** What the command line of a benchmark of snapshots says: how large the state is, who writes, how often it is measured, and where. */
export function snapshotOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      gib: { type: "string", default: "0.125" },
      "value-bytes": { type: "string", default: "1024" },
      callers: { type: "string", default: "32" },
      rounds: { type: "string", default: "3" },
    },
  });
  const valueBytes = Number(values["value-bytes"]);
  return {
    keys: Math.ceil((Number(values.gib) * GiB) / (KEY_BYTES + valueBytes)),
    valueBytes,
    callers: Number(values.callers),
    rounds: Number(values.rounds),
    parent: positionals[0] ?? tmpdir(),
  };
}
