import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ProcessCluster } from "../support/processes/process_cluster.js";

/** No election timer runs out while this test waits for a leader. */
const SETTINGS = ["--tick-ms", "200", "--election-ticks", "1000"];
const IDS = ["n1", "n2", "n3"] as const;

describe("a cluster that was killed as a whole", () => {
  let directory: string;
  let cluster: ProcessCluster;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cairn-restart-"));
    cluster = await ProcessCluster.start(directory, IDS, SETTINGS);
    await cluster.put(new Map([["before", "1"]]));
  });
  afterAll(async () => {
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function killAll(): Promise<void> {
    await Promise.all([...cluster.running.keys()].map((id) => cluster.kill(id)));
  }

  test("answers reads again without waiting for an election timeout", async () => {
    await killAll();
    await Promise.all(IDS.map((id) => cluster.startFounder(id)));
    expect(await cluster.readAll("")).toEqual(new Map([["before", "1"]]));
  });

  test("does so when only a majority of it is started, and takes the others back later", async () => {
    await killAll();
    await Promise.all(["n1", "n2"].map((id) => cluster.startFounder(id)));
    await cluster.put(new Map([["by two", "2"]]));
    const { id } = await cluster.leader();
    await cluster.startFounder("n3");
    await cluster.until("n3 follows the leader of the two", async () => {
      const statuses = await cluster.statuses();
      return statuses.some(({ nodeId, leaderId }) => nodeId === "n3" && leaderId === id) ? true : undefined;
    });
    expect((await cluster.leader()).id).toBe(id);
  });
});
