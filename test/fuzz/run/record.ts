import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { LeaseService } from "../../../gen/cairn/v1/lease_pb.js";
import { CairnClient } from "../../../src/client/client.js";
import { openChannel } from "../../../src/rpc/client.js";
import { freePorts, startNode } from "../nodes/cluster.js";
import { inRepository } from "../nodes/process.js";
import { type RecordingProxy, startProxy } from "../nodes/recording_proxy.js";
import { CORPUS_FILE, type RecordedTraffic } from "../targets/services/corpus.js";

/** Messages kept of one method, and the largest of them in bytes. */
const MESSAGES_PER_METHOD = 24;
const MESSAGE_BYTES = 3_000;

/** Runs a small workload on a cluster behind recording proxies, and writes the corpus. */
export async function recordCorpus(print: (line: string) => void): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "cairn-fuzz-record-"));
  const messages = new Map<string, Map<string, string>>();
  const record = (method: string, message: Buffer) => {
    if (message.byteLength > MESSAGE_BYTES) return;
    const known = messages.get(method) ?? new Map<string, string>();
    messages.set(method, known);
    // Those of one size differ in their numbers only.
    if (known.size < MESSAGES_PER_METHOD) known.set(String(message.byteLength), message.toString("base64"));
  };
  const ids = ["n1", "n2", "n3", "n4"];
  const ports = await freePorts(ids.length);
  const proxies: RecordingProxy[] = [];
  for (const port of ports) proxies.push(await startProxy(() => `127.0.0.1:${port}`, record));
  const addresses = proxies.map(({ address }) => address);
  const cluster = ids
    .slice(0, 3)
    .map((id, at) => `${id}=${addresses[at]}`)
    .join(",");
  const start = (at: number, args: readonly string[]) =>
    startNode({
      id: ids[at]!,
      data: join(directory, ids[at]!),
      listen: `127.0.0.1:${ports[at]}`,
      args: ["--advertise", addresses[at]!, "--trailing-log-bytes", "0", ...args],
    });
  const nodes = [0, 1, 2].map((at) => start(at, ["--cluster", cluster]));
  try {
    await Promise.all(nodes.map((node) => node.line('{"event":"listening"')));
    const recorded = await work(addresses, async () => {
      const joined = start(3, ["--join", addresses[0]!]);
      nodes.push(joined);
      await joined.line('{"event":"joined"').catch(() => {});
      await pause(2_000);
    });
    const file: RecordedTraffic = {
      ...recorded,
      messages: Object.fromEntries(
        [...messages].sort(([a], [b]) => (a < b ? -1 : 1)).map(([method, all]) => [method, [...all.values()].sort()]),
      ),
    };
    await writeFile(inRepository(CORPUS_FILE), `${JSON.stringify(file, undefined, 1)}\n`);
    for (const [method, all] of messages) print(`${String(all.size).padStart(4)}  ${method}`);
  } finally {
    await Promise.all(nodes.map((node) => node.kill()));
    for (const proxy of proxies) proxy.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function work(
  addresses: readonly string[],
  join: () => Promise<void>,
): Promise<Pick<RecordedTraffic, "clusterId" | "incarnations">> {
  const founders = addresses.slice(0, 3);
  const client = new CairnClient({ endpoints: [...founders], timeoutMs: 60_000, leaseThread: false });
  const channels = founders.map((address) => openChannel(address));
  try {
    await useKeys(client);
    for (const channel of channels) await useServices(channel);
    await join();
    const { clusterId } = await channels[0]!.client(AdminService).getStatus({});
    const statuses = await Promise.all(channels.map((channel) => channel.client(AdminService).getStatus({})));
    const incarnations = statuses.map(({ nodeId, incarnation }) => [nodeId, Buffer.from(incarnation).toString("hex")]);
    return { clusterId, incarnations: Object.fromEntries(incarnations) };
  } finally {
    for (const channel of channels) channel.close();
    await client.close();
  }
}

async function useKeys(client: CairnClient): Promise<void> {
  const watch = client.watch({ prefix: "f/" });
  for (let at = 0; at < 40; at++) await client.put(`f/${at % 13}`, "v".repeat(at * 17));
  await client.get("f/1");
  await client.compareAndSet("f/1", { version: 0 }, "v0").catch(() => {});
  await client.delete("f/2");
  await client.atomically(async (tx) => {
    const found = await tx.get("f/3");
    tx.put("f/4", `${found === undefined}`);
  });
  for await (const _ of client.range({ prefix: "f/", limit: 5 }));
  const lock = await client.lock("record");
  await lock.release();
  await watch.close();
}

async function useServices(channel: ReturnType<typeof openChannel>): Promise<void> {
  const kv = channel.client(KeyValueService);
  const admin = channel.client(AdminService);
  const lease = channel.client(LeaseService);
  const settings = { timeoutMs: 10_000 };
  const key = Buffer.from("f/1");
  const value = Buffer.from("v1");
  const requestId = { clientId: "client-1", sequence: 3n, since: 1n, acknowledgedThrough: 1n };
  const attempts: (() => Promise<unknown>)[] = [
    () => kv.put({ key, value, requestId }, settings),
    () => kv.put({ key, value, ifVersion: 7n }, settings),
    () => kv.get({ key, stale: true, minAppliedIndex: 3n }, settings),
    () => kv.delete({ key: Buffer.from("f/6"), requestId: { ...requestId, sequence: 4n } }, settings),
    () =>
      kv.compareAndSet({ key, expected: { case: "value", value }, newValue: value, createIfMissing: true }, settings),
    () =>
      kv.txn(
        {
          compare: [
            { key, expected: { case: "version", value: 3n } },
            { keys: { prefix: key }, expected: { case: "exists", value: true } },
          ],
          then: [{ operation: { case: "put", value: { key, value } } }],
          otherwise: [
            { operation: { case: "deleteRange", value: { keys: { prefix: Buffer.from("f/9") } } } },
            { operation: { case: "range", value: { keys: { start: key }, limit: 3n } } },
          ],
          requestId: { ...requestId, sequence: 5n },
        },
        settings,
      ),
    () => all(kv.range({ prefix: Buffer.from("f/"), limit: 3n, after: key }, settings)),
    () => all(kv.watch({ keys: { start: key }, startIndex: 2n, previous: true, progressMs: 100 }, { timeoutMs: 400 })),
    async () => {
      const { leaseId } = await lease.grant({ ttlMs: 5_000, requestId: { ...requestId, sequence: 6n } }, settings);
      const stream = lease.keepAlive(settings);
      await stream.send({ leaseIds: [leaseId] });
      stream.end();
      await all(stream.responses);
      await lease.timeToLive({ leaseId, keys: true }, settings);
      await all(lease.listLeases({ limit: 4n }, settings));
      await lease.revoke({ leaseId, requestId: { ...requestId, sequence: 7n } }, settings);
    },
    () => admin.getLogInfo({ minAppliedIndex: 2n }, settings),
    () => admin.takeSnapshot({ trigger: { case: "thresholdEntries", value: 1n }, keepLogBytes: 0n }, settings),
    () => admin.listSnapshots({}, settings),
    () => all(admin.downloadSnapshot({ index: 0n }, settings)),
    () => admin.compact({ index: 0n }, settings),
    () => admin.listTransfers({}, settings),
    () => admin.cancelTransfer({ id: "to-n4-12" }, settings),
    () => admin.addLearner({ nodeId: "fz1", address: "127.0.0.1:1" }, settings),
    () => admin.promoteLearner({ nodeId: "fz1" }, settings),
    () => admin.removeMember({ nodeId: "fz1" }, settings),
    () => admin.verifyState({}, settings),
    () => admin.campaign({}, settings),
    () => admin.transferLeadership({ nodeId: "n2" }, settings),
  ];
  // A refusal is traffic as well.
  for (const attempt of attempts) await attempt().catch(() => {});
}

async function all(values: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of values);
}
