import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { LmdbEnvironment } from "../../src/machine/lmdb/environment.js";
import { nodeFileSystem } from "../../src/system/fs.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { runCommand } from "../support/processes/processes.js";

test("cairn verify names the member on whose disk a value was changed, and exits 3", async () => {
  const directory = await temporaryDirectory();
  const cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], ["--tick-ms", "30"]);
  await cluster.put(new Map(Array.from({ length: 50 }, (_, at) => [`key-${at}`, "good"])));
  const endpoints = () => ["--endpoints", [...cluster.running.values()].map(({ address }) => address).join(",")];
  const verify = (...args: string[]) => runCommand(["verify", ...args, ...endpoints()]);
  const good = await verify();
  expect(good).toMatchObject({ code: 0, stderr: "" });
  expect(good.stdout).toMatch(
    /^all members have the same state at index \d+\nID +SHA-256 +STATE\nn1 +[0-9a-f]{64} +as most\n/,
  );

  const { id, data } = (await cluster.followers())[0]!;
  await cluster.kill(id);
  const unknown = await verify("--json");
  expect(unknown.code).toBe(1);
  expect(JSON.parse(unknown.stdout).members.find((each: { id: string }) => each.id === id).error).toMatch(
    /cannot be reached/,
  );

  const [view] = (await readdir(join(data, "state"))).filter((name) => name.startsWith("view-"));
  const environment = await LmdbEnvironment.open(nodeFileSystem, join(data, "state", view!));
  environment.transaction(() => {
    const key = Buffer.from("key-7");
    environment.records.put(key, { ...environment.records.getCopy(key)!, value: Buffer.from("evil") });
    // With a digest that fits, as of a node that has applied something else.
    environment.writeApplied(environment.readMark()!);
  });
  await environment.close();
  await cluster.startFounder(id);
  await cluster.settled();
  const bad = await verify("--json");
  expect(bad).toMatchObject({ code: 3, stderr: "" });
  const { equal, members } = JSON.parse(bad.stdout);
  expect(equal).toBe(false);
  expect(members.filter((each: { differs?: true }) => each.differs).map((each: { id: string }) => each.id)).toEqual([
    id,
  ]);
  expect((await verify()).stdout).toMatch(new RegExp(`a different state from the majority's: ${id}\n`));
  await cluster.close();
});
