import { stat } from "node:fs/promises";
import type { MonitoredNode } from "../monitored.js";
import type { ShownSnapshot } from "./shown.js";

/** Returns the snapshots on a node's disk, with the reasons of those since its start. */
export async function snapshotsOf({ snapshots, measures }: MonitoredNode): Promise<ShownSnapshot[]> {
  const reasons = new Map<number, string>();
  for (const entry of measures.timeline.entries) {
    if (entry.kind === "snapshot") reasons.set(entry.index, entry.reason);
  }
  return Promise.all(
    snapshots.list().map(async ({ index, fileBytes: bytes, path }) => {
      const found = await stat(path).catch(() => undefined);
      return { index, bytes, unixMs: found && Math.round(found.mtimeMs), reason: reasons.get(index) };
    }),
  );
}
