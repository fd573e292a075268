import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { NEWEST_RULES } from "../../src/machine/kv/session_limits.js";
import { snapshotFileName } from "../../src/storage/snapshots/file_names.js";
import { startNode } from "../support/processes/processes.js";
import { makeSnapshotFile, offerAndChunks, statePairs } from "../support/snapshots/snapshot_stream.js";
import type { Json, Tool } from "./tool.js";

const CLUSTER = "interop";
const KV = "cairn.v1.KeyValueService";
const ADMIN = "cairn.v1.AdminService";
const LEASES = "cairn.v1.LeaseService";
const RAFT = "cairn.v1.RaftService";

/** A running node with a data directory, both gone at its disposal. */
export async function interopNode(args: readonly string[] = []) {
  const data = await mkdtemp(join(tmpdir(), "cairn-interop-"));
  const { address, kill, event } = await startNode({ id: "n1", data, args });
  // Drawn when the cluster was founded, unless the node was given one.
  const clusterId = args.includes("--cluster-id") ? CLUSTER : `${(await event("founded")).cluster}`;
  return {
    address,
    data,
    clusterId,
    async [Symbol.asyncDispose]() {
      await kill();
      await rm(data, { recursive: true, force: true });
    },
  };
}

/** What a tool that knows nothing but an address can do with a node. */
export function interopSuite(tool: Tool, options: { readonly skip?: boolean } = {}): void {
  describe.skipIf(options.skip ?? false)(`${tool.name} with reflection alone`, () => {
    let node: Awaited<ReturnType<typeof interopNode>>;
    beforeAll(async () => {
      node = await interopNode();
    });
    afterAll(() => node[Symbol.asyncDispose]());

    const call = (method: string, ...messages: Json[]) => tool.call(node.address, method, messages);
    const answer = (method: string, ...messages: Json[]) => onlyAnswer(tool, node.address, method, ...messages);

    for (const [reflection, flags] of Object.entries(tool.reflections)) {
      test(`lists services and methods, and calls one (${reflection})`, async () => {
        expect(await tool.listServices(node.address, flags)).toEqual([
          ADMIN,
          KV,
          LEASES,
          RAFT,
          "grpc.health.v1.Health",
          "grpc.reflection.v1.ServerReflection",
          "grpc.reflection.v1alpha.ServerReflection",
        ]);
        expect(await tool.listMethods(node.address, flags)).toEqual(
          expect.arrayContaining([`${KV}/CompareAndSet`, `${ADMIN}/GetLogInfo`, `${RAFT}/InstallSnapshot`]),
        );
        const { status, messages } = await tool.call(node.address, `${ADMIN}/GetStatus`, [{}], flags);
        expect({ status, messages }).toMatchObject({
          status: "OK",
          messages: [{ clusterId: node.clusterId, nodeId: "n1" }],
        });
      });
    }

    test("writes, reads, swaps and deletes a key", async () => {
      const key = base64("interop/a");
      const put = await answer(`${KV}/Put`, { key, value: base64("1") });
      expect(put).toMatchObject({ header: { clusterId: node.clusterId, nodeId: "n1", leaderId: "n1" } });
      const got = await answer(`${KV}/Get`, { key });
      expect(got.kv).toEqual({ key, value: base64("1"), version: put.version, createVersion: put.version });

      const wrong = { key, value: base64("2"), newValue: base64("3") };
      const kept = await answer(`${KV}/CompareAndSet`, wrong);
      expect(kept).not.toHaveProperty("swapped");
      expect(kept.current).toMatchObject({ key, value: base64("1"), version: put.version });
      const swapped = await answer(`${KV}/CompareAndSet`, { key, version: put.version, newValue: base64("3") });
      expect(swapped).toMatchObject({ swapped: true });
      expect(Number(swapped.version)).toBeGreaterThan(Number(put.version));

      expect(await answer(`${KV}/Delete`, { key })).toMatchObject({ deleted: true });
      expect(await answer(`${KV}/Get`, { key })).not.toHaveProperty("kv");
    });

    test("compares and writes several keys at once, and gets the other list when the comparison fails", async () => {
      const [a, b] = [base64("interop/txn/a"), base64("interop/txn/b")];
      const request = {
        compare: [{ keys: { prefix: base64("interop/txn/") }, exists: false }],
        then: [{ put: { key: a, value: base64("1") } }, { put: { key: b, value: base64("2") } }],
        otherwise: [{ range: { keys: { prefix: base64("interop/txn/") } } }],
      };
      const done = await answer(`${KV}/Txn`, request);
      expect(done).toMatchObject({
        succeeded: true,
        results: [{ outcome: "COMMAND_OUTCOME_OK" }, { outcome: "COMMAND_OUTCOME_OK" }],
      });
      const { version } = done;
      const refused = await answer(`${KV}/Txn`, request);
      expect(refused).not.toHaveProperty("succeeded");
      expect((refused.results as Json[])[0]).toMatchObject({
        records: [
          { key: a, value: base64("1"), version, createVersion: version },
          { key: b, value: base64("2"), version, createVersion: version },
        ],
      });
      const failed = await answer(`${KV}/Put`, { key: a, value: base64("x"), ifVersion: "0" });
      expect(failed).toMatchObject({ conditionFailed: true, current: { value: base64("1"), version } });
      expect(await answer(`${KV}/Delete`, { key: a, ifVersion: version })).toMatchObject({ deleted: true });
      const twice = { then: [{ put: { key: a } }, { delete: { key: a } }] };
      const { status, text } = await call(`${KV}/Txn`, twice);
      expect(status).toBe("INVALID_ARGUMENT");
      expect(text).toContain("then[0] and then[1] of the transaction change the same key");
    });

    test("grants a lease, keeps it alive, and removes its key with it", async () => {
      const key = base64("interop/lease");
      const { leaseId } = await answer(`${LEASES}/Grant`, { ttlMs: 60_000 });
      expect(leaseId).toMatch(/^[1-9]\d*$/);
      await answer(`${KV}/Put`, { key, value: base64("1"), leaseId });
      expect((await answer(`${KV}/Get`, { key })).kv).toMatchObject({ key, leaseId });
      const { status, messages } = await call(`${LEASES}/KeepAlive`, { leaseIds: [leaseId, "999999999"] });
      expect(status).toBe("OK");
      expect(messages).toMatchObject([
        { leases: [{ leaseId, found: true, ttlMs: 60_000, keyCount: 1 }, { leaseId: "999999999" }] },
      ]);
      const { lease, keys } = await answer(`${LEASES}/TimeToLive`, { leaseId, keys: true });
      expect(lease).toMatchObject({ found: true, remainingMs: expect.any(Number) });
      expect(keys).toEqual([key]);
      const listed = await call(`${LEASES}/ListLeases`, { after: String(Number(leaseId) - 1), limit: "1" });
      expect(listed.messages).toMatchObject([{ leases: [{ leaseId }] }]);
      expect(await answer(`${LEASES}/Revoke`, { leaseId })).toMatchObject({ deleted: "1" });
      expect(await answer(`${KV}/Get`, { key })).not.toHaveProperty("kv");
      const gone = await call(`${KV}/Put`, { key, leaseId });
      expect(gone.status).toBe("NOT_FOUND");
      expect(gone.text).toContain("the lease does not exist, or has ended");
      expect((await call(`${LEASES}/Grant`, { ttlMs: 1 })).text).toContain("the limit leaseTtlMs is 1000");
    });

    test("makes several calls in one message of a session", async () => {
      const key = base64("interop/session");
      const calls = [
        { sequence: "1", put: { key, value: base64("1") } },
        { sequence: "2", get: { key: base64("interop/none") } },
        { sequence: "3", put: { key: "" } },
      ];
      const { status, messages } = await call(`${KV}/Session`, { clientId: "interop-session", calls });
      expect(status).toBe("OK");
      expect(messages[0]).toMatchObject({ header: { clusterId: node.clusterId, nodeId: "n1", leaderId: "n1" } });
      const answers = messages.flatMap((message) => (message.answers ?? []) as Json[]);
      expect(answers.toSorted((a, b) => Number(a.sequence) - Number(b.sequence))).toEqual([
        { sequence: "1", put: { version: expect.any(String) } },
        { sequence: "2", get: {} },
        { sequence: "3", error: expect.objectContaining({ code: "INVALID_ARGUMENT" }) },
      ]);
    });

    test("repeats a request under the same id without a second effect", async () => {
      const request = { key: base64("once"), value: base64("x"), requestId: { clientId: "interop", sequence: "1" } };
      const first = await answer(`${KV}/Put`, request);
      expect((await answer(`${KV}/Put`, request)).version).toBe(first.version);
    });

    test("reads a range as a stream", async () => {
      for (const name of ["range/2", "range/1", "rangf"]) await answer(`${KV}/Put`, { key: base64(name) });
      const { kvs } = await answer(`${KV}/Range`, { prefix: base64("range/") });
      expect((kvs as Json[]).map((kv) => kv.key)).toEqual([base64("range/1"), base64("range/2")]);
    });

    test("takes a snapshot, lists it and downloads it", async () => {
      const { version } = await answer(`${KV}/Put`, { key: base64("in the snapshot"), value: base64("yes") });
      const taken = await answer(`${ADMIN}/TakeSnapshot`, { keepLogBytes: "0" });
      expect(taken).toMatchObject({ taken: true, snapshot: { index: version } });
      const info = taken.snapshot as Record<"index" | "term" | "fileBytes" | "sha256", string>;
      const { snapshots } = await answer(`${ADMIN}/ListSnapshots`, {});
      expect((snapshots as Json[])[0]).toEqual(info);

      const log = await answer(`${ADMIN}/GetLogInfo`, {});
      expect(log).toMatchObject({ snapshotIndex: version, lastIndex: version, appliedIndex: version, term: info.term });
      expect(log.firstIndex).toBe(String(Number(version) + 1));

      const { status, messages } = await call(`${ADMIN}/DownloadSnapshot`, {});
      expect(status).toBe("OK");
      expect(messages[0]).toMatchObject({ info });
      const file = Buffer.concat(messages.map(({ data }) => Buffer.from((data as string | undefined) ?? "", "base64")));
      expect(String(file.byteLength)).toBe(info.fileBytes);
      expect(createHash("sha256").update(file.subarray(0, -56)).digest("base64")).toBe(info.sha256);
      const name = snapshotFileName({ index: Number(info.index), term: Number(info.term) });
      expect(file.equals(await readFile(join(node.data, "snapshots", name))), "the file as it is on disk").toBe(true);
    });

    test("is refused an exact index that is not applied yet, and told the applied one", async () => {
      const { status, text } = await call(`${ADMIN}/TakeSnapshot`, { index: "1000000" });
      expect(status).toBe("OUT_OF_RANGE");
      expect(text).toMatch(/index 1000000 is not applied yet: the last applied index is \d+/);
    });

    test("reads from the health service that the node serves", async () => {
      expect(await answer("grpc.health.v1.Health/Check", {})).toEqual({ status: "SERVING" });
      expect(await answer("grpc.health.v1.Health/Check", { service: KV })).toEqual({ status: "SERVING" });
      expect((await call("grpc.health.v1.Health/Check", { service: "no.such.Service" })).status).toBe("NOT_FOUND");
    });

    test("gets an error with a status that names the limit", async () => {
      const { status, text } = await call(`${KV}/Put`, { key: base64("k".repeat(limits.keyBytes + 1)) });
      expect(status).toBe("INVALID_ARGUMENT");
      expect(text).toMatch(/^\[LIMIT_EXCEEDED\] .*1025 bytes.*keyBytes.*1024/);
    });

    test("is told which index a watch can begin with, and what a watch may ask for", async () => {
      await answer(`${KV}/Put`, { key: base64("watched"), value: base64("1") });
      const { snapshot } = await answer(`${ADMIN}/TakeSnapshot`, { keepLogBytes: "0" });
      const oldest = Number((snapshot as { index: string }).index) + 1;
      const gone = await call(`${KV}/Watch`, { startIndex: "1", key: base64("watched") });
      expect(gone).toMatchObject({ status: "OUT_OF_RANGE", messages: [] });
      expect(gone.text).toContain(`the oldest index that works is ${oldest}`);
      const unclear = await call(`${KV}/Watch`, { key: base64("a"), keys: { start: base64("a") } });
      expect(unclear.status).toBe("INVALID_ARGUMENT");
      const other = await call(`${KV}/Watch`, { clusterId: "another" });
      expect(other.status).toBe("FAILED_PRECONDITION");
    });

    describe("as a peer of a node with manual elections", () => {
      let follower: Awaited<ReturnType<typeof interopNode>>;
      beforeAll(async () => {
        follower = await interopNode(["--elections", "manual", "--cluster-id", CLUSTER]);
      });
      afterAll(() => follower[Symbol.asyncDispose]());
      const header = { protocolVersion: 2, clusterId: CLUSTER, senderId: "n2", receiverId: "n1" };
      const ask = (method: string, ...messages: Json[]) => onlyAnswer(tool, follower.address, method, ...messages);

      test("gets one vote in a term", async () => {
        const vote = { header, term: "3", candidateId: "n2" };
        expect(await ask(`${RAFT}/RequestVote`, vote)).toEqual({ term: "3", voteGranted: true });
        const other = { ...vote, header: { ...header, senderId: "n3" }, candidateId: "n3" };
        expect(await ask(`${RAFT}/RequestVote`, other)).toEqual({ term: "3" });
      });

      test("has entries of a stale term rejected by an answer, not by an error", async () => {
        const heartbeat = { header, leaderId: "n2", round: "7" };
        expect(await ask(`${RAFT}/AppendEntries`, { ...heartbeat, term: "5" })).toMatchObject({
          term: "5",
          success: true,
        });
        const { detail, ...rejection } = await ask(`${RAFT}/AppendEntries`, { ...heartbeat, term: "4" });
        expect(rejection).toEqual({
          term: "5",
          rejection: "APPEND_ENTRIES_REJECTION_STALE_TERM",
          round: "7",
          newestRules: NEWEST_RULES,
        });
        expect(detail).toMatch(/4.*5/);
      });

      test("has a message for another cluster refused with both names", async () => {
        const stranger = { header: { ...header, clusterId: "another" }, term: "5", candidateId: "n2" };
        const { status, text } = await tool.call(follower.address, `${RAFT}/RequestVote`, [stranger]);
        expect(status).toBe("FAILED_PRECONDITION");
        expect(text).toContain('header.cluster_id is "another", expected "interop"');
      });

      test("installs a snapshot from messages on standard input, and reads its state", async () => {
        const pairs = statePairs(500, 1000);
        const file = await makeSnapshotFile({ clusterId: CLUSTER, index: 40, term: 2, pairs });
        const messages = offerAndChunks(file, { header, term: 6, leaderId: "n2", chunkBytes: 100_000 });
        const installed = await tool.call(follower.address, `${RAFT}/InstallSnapshot`, messages);
        expect(installed).toMatchObject({ status: "OK", text: "" });
        expect(installed.messages.at(0)).toEqual({ accepted: {} });
        expect(installed.messages.at(-1)).toEqual({ installed: { term: "6", matchIndex: "40", applied: true } });

        for (const { key, value } of [pairs[0]!, pairs.at(-1)!]) {
          const { kv } = await ask(`${KV}/Get`, { key: key.toString("base64"), stale: true });
          expect(kv).toMatchObject({ value: value.toString("base64"), version: "40" });
        }
        expect(await ask(`${ADMIN}/GetLogInfo`, {})).toMatchObject({
          firstIndex: "41",
          lastIndex: "40",
          snapshotIndex: "40",
        });
        const again = await tool.call(follower.address, `${RAFT}/InstallSnapshot`, messages.slice(0, 1));
        expect(again.messages).toMatchObject([
          { refused: { reason: "SNAPSHOT_REFUSAL_ALREADY_COMMITTED", commitIndex: "40" } },
        ]);
      });

      test("ends the installation by a chunk with a flipped bit, which leaves nothing", async () => {
        const file = await makeSnapshotFile({ clusterId: CLUSTER, index: 60, term: 2, pairs: statePairs(10, 10) });
        const [offer, chunk] = offerAndChunks(file, { header, term: 6, leaderId: "n2", chunkBytes: 100_000 });
        const { crc32, ...rest } = chunk!.chunk as { crc32: number };
        const bad = { chunk: { ...rest, crc32: (crc32 ^ 1) >>> 0 } };
        const { status, text } = await tool.call(follower.address, `${RAFT}/InstallSnapshot`, [offer!, bad]);
        expect(status).toBe("DATA_LOSS");
        expect(text).toMatch(/chunk at offset 0 has CRC-32/);
        expect(await ask(`${ADMIN}/GetStatus`, {})).not.toMatchObject({ snapshotIndex: "60" });
        const files = await readdir(join(follower.data, "snapshots"));
        expect(files.filter((name) => !name.endsWith(".snap"))).toEqual([]);
      });
    });
  });
}

/** The one message of an answer that is OK. */
export async function onlyAnswer(tool: Tool, address: string, method: string, ...messages: Json[]): Promise<Json> {
  const answer = await tool.call(address, method, messages);
  expect(answer, `${method} is answered`).toMatchObject({ status: "OK" });
  expect(answer.messages).toHaveLength(1);
  return answer.messages[0]!;
}

export function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
