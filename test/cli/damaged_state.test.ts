import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { createClient } from "../../src/rpc/client.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { startNode } from "../support/processes/processes.js";

const VALUE = "a value that stands out";

async function dataFileOf(data: string): Promise<string> {
  const name = (await readdir(join(data, "state"))).find((each) => each.startsWith("view-"));
  return join(data, "state", name!, "data.mdb");
}

/** Writes to, or reads from, the node at an address. */
async function put(address: string): Promise<void> {
  const kv = createClient(KeyValueService, address);
  for (let n = 0; n < 200; n++) await kv.put({ key: Buffer.from(`key ${n}`), value: Buffer.from(`${VALUE} ${n}`) });
  kv.close();
}

async function rangeOf(address: string): Promise<string[]> {
  const kv = createClient(KeyValueService, address);
  const found: string[] = [];
  try {
    for await (const { kvs } of kv.range({})) found.push(...kvs.map(({ value }) => Buffer.from(value).toString()));
  } finally {
    kv.close();
  }
  return found.sort();
}

const expected = Array.from({ length: 200 }, (_, n) => `${VALUE} ${n}`).sort();

test("a node whose state has zeroed pages starts, says that it rebuilds the state, and has all keys (T7)", async () => {
  const data = await temporaryDirectory();
  const node = await startNode({ id: "a", data });
  await put(node.address);
  await node.kill();
  const path = await dataFileOf(data);
  const bytes = await readFile(path);
  // Which page is in use, only LMDB knows.
  for (let page = 2; page * 4096 < bytes.byteLength; page++) {
    const content = bytes.subarray(page * 4096, (page + 1) * 4096);
    if (content.includes(VALUE)) content.fill(0);
  }
  await writeFile(path, bytes);
  const again = await startNode({ id: "a", data });
  expect(await rangeOf(again.address)).toEqual(expected);
  expect(again.command.stderr).toMatch(/the state on disk is damaged.*rebuilding it from snapshot and log/);
});

test("a node that reads a flipped bit exits 70, and its next start rebuilds the state (T7)", async () => {
  const data = await temporaryDirectory();
  const node = await startNode({ id: "a", data });
  await put(node.address);
  const path = await dataFileOf(data);
  const bytes = await readFile(path);
  for (let at = bytes.indexOf(VALUE); at >= 0; at = bytes.indexOf(VALUE, at + 1)) bytes[at]! ^= 2;
  await writeFile(path, bytes, { flag: "r+" });
  const error = await rangeOf(node.address).catch((failed: unknown) => CairnError.from(failed));
  // The answer may or may not come before the end of the process.
  expect(error).toMatchObject({ code: expect.stringMatching(/^(CORRUPT|UNREACHABLE|STOPPED)$/) });
  expect(await node.exited).toEqual({ code: 70, signal: null });
  expect(node.command.stderr).toContain("the state on disk is damaged");
  const again = await startNode({ id: "a", data });
  expect(await rangeOf(again.address)).toEqual(expected);
  expect(again.command.stderr).toMatch(/found damaged before.*rebuilding it from snapshot and log/);
});
