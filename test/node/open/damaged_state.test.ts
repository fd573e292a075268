import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { expect, test } from "vitest";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import { silentLogger } from "../../../src/system/logger.js";
import { failure, until } from "../../support/conditions.js";
import { bytes, putCommand, readValue } from "../../support/nodes/acting_leader.js";
import { type DiskHome, diskHome } from "../../support/nodes/nodes.js";

const VALUE = "a value that stands out";

/** A node with 60 keys, a snapshot at index 30, and what it has said. */
async function startFilled() {
  const home = await diskHome();
  const fatal: unknown[] = [];
  const node = await home.startLeader({ onFatal: (error) => fatal.push(error) });
  for (let n = 0; n < 60; n++) await node.propose(putCommand(`key ${n}`, n === 7 ? VALUE : `${n}`));
  await node.takeSnapshot({ index: 30, keepLogBytes: 0 });
  return { home, node, fatal };
}

async function environmentOf(home: DiskHome): Promise<string> {
  const state = join(home.directoryOf("n1"), "state");
  const name = (await readdir(state)).find((each) => each.startsWith("view-"));
  return join(state, name!);
}

async function flipInValue(home: DiskHome): Promise<void> {
  const path = join(await environmentOf(home), "data.mdb");
  const data = await readFile(path);
  const file = await open(path, "r+");
  for (let at = data.indexOf(VALUE); at >= 0; at = data.indexOf(VALUE, at + 1)) {
    await file.write(Buffer.from([data[at]! ^ 1]), 0, 1, at);
  }
  await file.close();
}

/** Through another handle, which knows nothing of the digest. */
async function removeKey(home: DiskHome, key: string): Promise<void> {
  const environment = openLmdb<Buffer, Uint8Array>({ path: await environmentOf(home), noSubdir: false, noSync: true });
  const keys = environment.openDB<Buffer, Uint8Array>("keys", { encoding: "binary", keyEncoding: "binary" });
  keys.removeSync(bytes(key));
  await environment.close();
}

/** The node has stopped and said why; its next start builds the state anew, says so, and has lost nothing. */
async function expectRebuilt(home: DiskHome, node: KeyValueNode, fatal: unknown[]): Promise<void> {
  await until(() => fatal.length > 0, "the node says that it cannot go on");
  expect(fatal).toEqual([expect.objectContaining({ code: "CORRUPT" })]);
  await failure("STOPPED", node.propose(putCommand("k", "v")));
  await home.crash(node);
  const warnings: object[] = [];
  const logger = { ...silentLogger, warn: (facts: object) => void warnings.push(facts) };
  const again = await home.startLeader({ logger });
  expect(warnings).toContainEqual({ reason: expect.stringContaining("found damaged before") });
  expect(again.recovery).toMatchObject({ stateRebuilt: true, snapshotIndex: 30 });
  expect(again.machine.keyCount).toBe(60);
  expect(readValue(again, "key 7")).toBe(VALUE);
  expect(readValue(again, "key 8")).toBe("8");
}

test("a node that reads a damaged value stops, and rebuilds its state at the next start (T7)", async () => {
  const { home, node, fatal } = await startFilled();
  await flipInValue(home);
  expect(() => readValue(node, "key 7")).toThrow(expect.objectContaining({ code: "CORRUPT" }));
  await expectRebuilt(home, node, fatal);
});

test("a node that applies an entry on top of a damaged value stops, and rebuilds its state at the next start (T7)", async () => {
  const { home, node, fatal } = await startFilled();
  await flipInValue(home);
  await failure("OUTCOME_UNKNOWN", node.propose(putCommand("key 7", VALUE)));
  await expectRebuilt(home, node, fatal);
});

test("a node makes no snapshot of a state that has lost a key, and keeps the log that has the key (T7)", async () => {
  const { home, node, fatal } = await startFilled();
  await removeKey(home, "key 8");
  const snapshots = await home.snapshotFiles();
  await expect(node.takeSnapshot({ keepLogBytes: 0 })).rejects.toMatchObject({
    code: expect.stringMatching(/^(CORRUPT|STOPPED)$/),
  });
  await until(() => fatal.length > 0, "the node says that it cannot go on");
  expect(String(fatal[0])).toContain("it has 59 keys, and should have 60");
  expect(await home.snapshotFiles()).toEqual(snapshots);
  expect(node.raft.log.boundary.index).toBe(30);
  await expectRebuilt(home, node, fatal);
});
