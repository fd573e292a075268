import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { type Client, openChannel } from "../../src/rpc/client.js";
import { untilAsync } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { collect } from "../support/nodes/loopback.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { type RunningNode, runCommand, startNode } from "../support/processes/processes.js";

const INGRESS = ["--ingress", "2", "--ingress-listen", "127.0.0.1:0", "--log-level", "info"];

if (!existsSync("/proc")) console.log("skipped: without /proc, nothing tells a process's children");

/** Fields of a process that runs; undefined when there is none, or only what its parent has not waited for. */
function processOf(pid: number): { readonly parent: number } | undefined {
  try {
    const [, state, parent] = /\) (\S) (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8")) ?? [];
    return state === "Z" ? undefined : { parent: Number(parent) };
  } catch {
    return undefined;
  }
}

function childrenOf(pid: number): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((each) => processOf(each)?.parent === pid);
}

async function untilGone(pids: readonly number[]): Promise<void> {
  await untilAsync(async () => pids.every((pid) => processOf(pid) === undefined), `${pids.join(", ")} are gone`);
}

/** A client with a connection of its own. */
function clientAt(address: string): Client<typeof KeyValueService> {
  const channel = openChannel(address);
  onTestFinished(() => channel.close());
  return channel.client(KeyValueService);
}

const text = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString();

describe.skipIf(!existsSync("/proc"))("a node with ingress processes", () => {
  async function start(): Promise<{ node: RunningNode; address: string; pids: number[] }> {
    const node = await startNode({ id: "n1", data: await temporaryDirectory(), args: INGRESS });
    const { address, processes } = (await node.event("ingress")) as { address: string; processes: number };
    expect(processes).toBe(2);
    // Until both serve, one of them gets all connections.
    const serving = () => node.output().split("an ingress process serves").length - 1;
    await untilAsync(async () => childrenOf(node.pid).length === 2 && serving() === 2, "both processes serve");
    await clientAt(address).put({ key: Buffer.from("first") }, { timeoutMs: 30_000 });
    return { node, address, pids: childrenOf(node.pid) };
  }

  test("keeps serving when one is killed, and gets it back", async () => {
    const { node, address, pids } = await start();
    const kvs = Array.from({ length: 8 }, () => clientAt(address));
    let isOver = false;
    const callers = kvs.map(async (kv, at) => {
      const codes = new Set<string>();
      const counts = { answers: 0, afterwards: 0 };
      while (!isOver || counts.afterwards === 0) {
        try {
          await kv.put({ key: Buffer.from(`k${at}`), value: Buffer.from(`${counts.answers}`) }, { timeoutMs: 30_000 });
          counts.answers++;
          if (isOver) counts.afterwards++;
        } catch (error) {
          codes.add(CairnError.from(error).code);
        }
      }
      return { codes: [...codes], ...counts };
    });
    const isWritten = async (at: number) => (await kvs[at]!.get({ key: Buffer.from(`k${at}`) })).kv !== undefined;
    await untilAsync(async () => (await Promise.all(kvs.map((_, at) => isWritten(at)))).every(Boolean), "all write");
    process.kill(pids[0]!, "SIGKILL");
    await untilAsync(async () => {
      const now = childrenOf(node.pid);
      return now.length === 2 && !now.includes(pids[0]!) && now.includes(pids[1]!);
    }, "another process is in its place");
    isOver = true;
    const done = await Promise.all(callers);
    const hit = done.filter(({ codes }) => codes.length > 0);
    // The connections were spread evenly, with one more for the first client.
    expect(hit.length).toBeGreaterThanOrEqual(3);
    expect(hit.length).toBeLessThanOrEqual(5);
    for (const code of hit.flatMap(({ codes }) => codes)) expect(["OUTCOME_UNKNOWN", "UNREACHABLE"]).toContain(code);
    expect(node.output()).toContain("an ingress process has ended, and is started again");
    expect(processOf(node.pid)).toBeDefined();
  });

  test("takes them along when it is killed", async () => {
    const { node, address, pids } = await start();
    const kv = clientAt(address);
    const waiting = kv.get({ key: Buffer.from("k"), stale: true, minAppliedIndex: 1_000_000n }).catch((error) => error);
    await kv.get({ key: Buffer.from("k") });
    await node.kill("SIGKILL");
    expect(CairnError.from(await waiting).code).toBe("UNREACHABLE");
    await untilGone(pids);
  });

  test("takes them along when it is stopped, and answers the calls under way", async () => {
    const { node, address, pids } = await start();
    const kv = clientAt(address);
    let stopped: ReturnType<RunningNode["kill"]> | undefined;
    const answers: unknown[] = [];
    for (let calls = 0; ; calls++) {
      if (calls === 20) stopped = node.kill("SIGTERM");
      const answer = await kv.put({ key: Buffer.from("k") }).catch((error: unknown) => error);
      answers.push(answer);
      if (answer instanceof CairnError) break;
    }
    expect(answers.length).toBeGreaterThan(20);
    // Refused before it was sent: no call was cut off.
    expect(answers.at(-1)).toMatchObject({ code: "UNREACHABLE" });
    expect(await stopped).toEqual({ code: 0, signal: null });
    expect(node.command.stderr, "no process is missed that was told to end").not.toContain(
      "has ended, and is started again",
    );
    await untilGone(pids);
  });

  test("does not start when the address for clients is taken, and names the flag", async () => {
    const { address } = await start();
    const args = ["start", "--id", "n2", "--data", await temporaryDirectory(), "--listen", "127.0.0.1:0"];
    const { code, stderr } = await runCommand([...args, "--ingress", "1", "--ingress-listen", address]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr:
        `cairn: [INVALID_ARGUMENT] cannot take client connections on ${address}: the address is in use. ` +
        "Give a free host:port of this machine with --ingress-listen; port 0 takes any.\n",
    });
  });
});

describe("a cluster whose nodes have ingress processes", () => {
  let directory: string;
  let cluster: ProcessCluster;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cairn-ingress-"));
    cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], INGRESS);
    // A follower that has heard of no entry yet is new, and refuses calls.
    await cluster.settled();
  });
  afterAll(async () => {
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("answers unary calls at the leader's and at a follower's, in the leader's name", async () => {
    const leader = await cluster.leader();
    for (const { id, node, kv: direct } of [leader, ...(await cluster.followers())]) {
      const kv = clientAt(`${(await node.event("ingress")).address}`);
      const key = Buffer.from(`at ${id}`);
      const put = await kv.put({ key, value: Buffer.from("1") });
      expect(put.header).toMatchObject({ nodeId: leader.id, leaderId: leader.id, leaderAddress: leader.address });
      expect(text((await kv.get({ key })).kv?.value)).toBe("1");
      const minAppliedIndex = put.header!.appliedIndex;
      const stale = await kv.get({ key, stale: true, minAppliedIndex });
      expect([stale.header?.nodeId, text(stale.kv?.value)]).toEqual([id, "1"]);
      const expected = { case: "version", value: put.version } as const;
      expect(await kv.compareAndSet({ key, expected, newValue: Buffer.from("2") })).toMatchObject({ swapped: true });
      const kvs = (await collect(kv.range({ prefix: key }))).flatMap((part) => part.kvs);
      expect(kvs.map(({ value }) => text(value))).toEqual(["2"]);
      expect(await kv.delete({ key })).toMatchObject({ deleted: true });
      expect((await direct.get({ key })).kv).toBeUndefined();
    }
  });

  test("answers them again after another node has come to lead", async () => {
    const leader = await cluster.leader();
    const [follower] = await cluster.followers();
    const kv = clientAt(`${(await follower!.node.event("ingress")).address}`);
    await kv.put({ key: Buffer.from("before") });
    await cluster.kill(leader.id);
    await cluster.leader();
    await untilAsync(async () => {
      const put = await kv.put({ key: Buffer.from("after") }, { timeoutMs: 5_000 }).catch(() => undefined);
      return put !== undefined;
    }, "a write goes through");
    await cluster.startFounder(leader.id);
  });
});
