import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { ownNodes, put, startNodes } from "./support.js";

const SEGMENT_BYTES = 384 * 1024;
const REQUESTS = 300;
const REQUESTS_PER_SNAPSHOT = 50;
const ENTRIES = 10;

test("the gateway's disk holds at most two log segments and two snapshots, however much is written", async () => {
  const dataDir = await temporaryDirectory();
  const gateway = await startNodes(["n1"], { nodes: await ownNodes(dataDir, SEGMENT_BYTES) });
  const segments = async () => (await readdir(join(dataDir, "n1", "wal"))).length;
  const seen: number[] = [];
  for (let request = 0; request < REQUESTS; request++) {
    const first = request * ENTRIES + 1;
    const entries = Array.from({ length: ENTRIES }, (_, at) => put(first + at, `k${at}`, "v".repeat(1024)));
    const reply = await gateway.ask({ type: "apply_entries", entries });
    expect(reply.last_applied).toBe(first + ENTRIES - 1);
    seen.push(await segments());
    if ((request + 1) % REQUESTS_PER_SNAPSHOT !== 0) continue;
    const taken = await gateway.ask({ type: "take_snapshot", threshold: 1 });
    expect(taken.log_entries_trimmed).toBe(REQUESTS_PER_SNAPSHOT * ENTRIES);
    seen.push(await segments());
  }
  // More was written than two segments hold.
  expect(REQUESTS * ENTRIES * 1024).toBeGreaterThan(2 * SEGMENT_BYTES);
  expect(Math.max(...seen)).toBe(2);
  expect((await readdir(join(dataDir, "n1", "snapshots"))).filter((name) => name.endsWith(".snap"))).toHaveLength(2);
});
