import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { LeaseService } from "../../gen/cairn/v1/lease_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { openChannel, type SharedChannel } from "../../src/rpc/client.js";
import { failure, until, untilAsync } from "../support/conditions.js";
import { replaceFile } from "../support/disk/replace_file.js";
import { bytes, text } from "../support/nodes/acting_leader.js";
import { accessText, type TestCaller, testCaller } from "../support/nodes/guarded.js";
import { collect } from "../support/nodes/loopback.js";
import { freePorts } from "../support/processes/process_cluster.js";
import { type RunningNode, runCommand, startNode } from "../support/processes/processes.js";

// Three nodes, each a process, with one access file; members know each other by a token.

const IDS = ["n1", "n2", "n3"] as const;

const reader = testCaller("reader", { role: "reader", prefixes: ["app/"] });
const writer = testCaller("writer", { role: "writer", prefixes: ["app/"] });
const all = testCaller("all", { role: "writer" });
const ops = testCaller("ops", { role: "admin" });
const peer = testCaller("members", { role: "peer" });

let directory: string;
let file: string;
let nodes: RunningNode[];
let ingress: string;
const channels: SharedChannel[] = [];

/** Clients of one address, with the token of a caller. */
function clientsAt(address: string, caller?: TestCaller) {
  const channel = openChannel(address, caller === undefined ? {} : { token: () => caller.token });
  channels.push(channel);
  return {
    kv: channel.client(KeyValueService),
    leases: channel.client(LeaseService),
    admin: channel.client(AdminService),
  };
}

/** The address of a node that follows, and that of the leader. */
async function places(): Promise<{ follower: string; leader: string }> {
  const statuses = await Promise.all(nodes.map(({ address }) => clientsAt(address, ops).admin.getStatus({})));
  const leader = statuses.findIndex(({ nodeId, leaderId }) => nodeId === leaderId);
  return { leader: nodes[leader]!.address, follower: nodes[leader === 2 ? 1 : 2]!.address };
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-access-"));
  file = join(directory, "access.json");
  const token = join(directory, "peer.token");
  writeFileSync(file, accessText([reader, writer, all, ops, peer]));
  writeFileSync(token, `${peer.token}\n`);
  const ports = await freePorts(3);
  const cluster = IDS.map((id, at) => `${id}=127.0.0.1:${ports[at]}`).join(",");
  const args = ["--cluster", cluster, "--access", file, "--peer-token-file", token, "--log-level", "info"];
  const withIngress = ["--ingress", "1", "--ingress-listen", "127.0.0.1:0"];
  nodes = await Promise.all(
    IDS.map((id, at) =>
      startNode({
        id,
        data: join(directory, id),
        listen: `127.0.0.1:${ports[at]}`,
        args: [...args, ...(id === "n3" ? withIngress : [])],
        outlivesTest: true,
      }),
    ),
  );
  ingress = ((await nodes[2]!.event("ingress")) as { address: string }).address;
  const first = clientsAt(nodes[2]!.address, all).kv;
  await untilAsync(
    () =>
      first.put({ key: bytes("other/a"), value: bytes("0") }, { timeoutMs: 5_000 }).then(
        () => true,
        () => false,
      ),
    "the cluster takes writes through n3",
  );
}, 120_000);

afterAll(async () => {
  for (const channel of channels) channel.close();
  await Promise.all(nodes.map((node) => node.kill()));
  await rm(directory, { recursive: true, force: true });
});

test.each(["a follower", "the leader", "an ingress process"])("roles and prefixes hold through %s", async (through) => {
  const { follower, leader } = await places();
  const address = through === "a follower" ? follower : through === "the leader" ? leader : ingress;
  const [r, w, a, o] = [reader, writer, all, ops].map((caller) => clientsAt(address, caller));
  const strangers = clientsAt(address);
  const key = bytes("app/a");
  const other = bytes("other/a");
  await failure("UNAUTHENTICATED", strangers.kv.put({ key }), "no credentials came with the call");
  await failure("UNAUTHENTICATED", collect(strangers.kv.range({})));
  await w!.kv.put({ key, value: bytes("1") });
  expect(text((await r!.kv.get({ key })).kv?.value)).toBe("1");
  await failure("PERMISSION_DENIED", r!.kv.put({ key }), "reader lacks the role writer");
  await failure("PERMISSION_DENIED", w!.kv.put({ key: other }), 'the prefix "other/"');
  await failure("PERMISSION_DENIED", w!.kv.get({ key: other, stale: true }));
  await failure("PERMISSION_DENIED", o!.kv.get({ key }));
  await failure("PERMISSION_DENIED", collect(r!.kv.range({})), "all keys");
  expect((await collect(r!.kv.range({ prefix: bytes("app/") }))).flatMap(({ kvs }) => kvs)).toHaveLength(1);
  const put = (at: Uint8Array) => ({ operation: { case: "put" as const, value: { key: at, value: bytes("2") } } });
  await failure("PERMISSION_DENIED", w!.kv.txn({ then: [put(key)], otherwise: [put(other)] }));
  expect((await w!.kv.txn({ then: [put(key)] })).succeeded).toBe(true);

  const session = w!.kv.session();
  const puts = [key, other].map((at, sequence) => ({
    sequence: BigInt(sequence + 1),
    call: { case: "put" as const, value: { key: at, value: bytes("3") } },
  }));
  // A session belongs to the leader; a follower answers each call that it may make with NOT_LEADER.
  await session.send({ clientId: `c-${address}`, calls: puts });
  const outcomes = new Map<number, string>();
  for await (const { answers } of session.responses) {
    for (const { sequence, answer } of answers) {
      outcomes.set(Number(sequence), answer.case === "error" ? answer.value.code : `${answer.case}`);
    }
    if (outcomes.size === 2) break;
  }
  expect(["put", "NOT_LEADER"]).toContain(outcomes.get(1));
  expect(outcomes.get(2)).toBe("PERMISSION_DENIED");

  const { leaseId } = await w!.leases.grant({ ttlMs: 60_000 });
  await w!.kv.put({ key: bytes("app/leased"), leaseId });
  const keep = async ({ leases }: ReturnType<typeof clientsAt>) => {
    const stream = leases.keepAlive();
    await stream.send({ leaseIds: [leaseId] });
    stream.end();
    return (await collect(stream.responses))[0]?.leases[0]?.found;
  };
  expect(await keep(w!)).toBe(true);
  await failure("PERMISSION_DENIED", keep(r!));
  await a!.kv.put({ key: bytes("other/leased"), leaseId });
  expect(await keep(w!)).toBe(false);
  await failure("PERMISSION_DENIED", w!.leases.revoke({ leaseId }), "attached to lease");
  expect((await a!.leases.revoke({ leaseId })).deleted).toBe(2n);

  await failure("PERMISSION_DENIED", a!.admin.listSnapshots({}), "all lacks the role admin");
  await o!.admin.listSnapshots({});
  await failure("PERMISSION_DENIED", collect(a!.admin.downloadSnapshot({})));
});

test("nobody but a member speaks for others, or for an ingress process", async () => {
  const forged = { "cairn-forwarded-by": "n1", "cairn-caller": "all" };
  const client = Buffer.from(
    JSON.stringify({ certificate: { authority: "peer", names: [], node: { cluster: "c", id: "n1" } } }),
  );
  for (const address of [nodes[0]!.address, ingress]) {
    const { kv, admin } = clientsAt(address, reader);
    await failure("PERMISSION_DENIED", kv.put({ key: bytes("app/a") }, { metadata: forged }));
    await failure("PERMISSION_DENIED", collect(kv.range({}, { metadata: forged })), "lacks the role peer");
    const shown = { "cairn-ingress": "calls", "cairn-client": client.toString("base64url") };
    await failure("PERMISSION_DENIED", collect(kv.range({}, { metadata: shown })), "reader lacks");
    await failure("PERMISSION_DENIED", admin.listSnapshots({}, { metadata: shown }), "reader lacks");
    const stream = kv.session({ metadata: shown });
    await stream.send({ ingress: true, calls: [] });
    await failure("PERMISSION_DENIED", collect(stream.responses), "that the first message of the session claims");
  }
});

test("members compare their states with their own credentials, and the audit names the operator", async () => {
  const { admin } = clientsAt(nodes[1]!.address, ops);
  const { digests, allEqual } = await admin.verifyState({}, { timeoutMs: 60_000 });
  expect([digests.length, allEqual, digests.map(({ error }) => error).join("")]).toEqual([3, true, ""]);
  const audited = () =>
    nodes[1]!
      .output()
      .split("\n")
      .filter((line) => line.includes('"audit":"admin"') && line.includes("VerifyState"));
  await until(() => audited().length === 1, "the audit has the call");
  expect(JSON.parse(audited()[0]!)).toMatchObject({ level: 30, caller: "ops", code: "OK" });
});

test("a reload revokes, at every node, within a second or so", async () => {
  const { follower } = await places();
  const { kv } = clientsAt(follower, reader);
  const events: unknown[] = [];
  const watching = (async () => {
    for await (const answer of kv.watch({ prefix: bytes("app/") })) events.push(answer);
  })();
  watching.catch(() => {});
  await until(() => events.length > 0, "the watch has begun");
  const shrunk = { ...writer, grants: [{ role: "writer", prefixes: ["elsewhere/"] }] };
  await replaceFile(file, accessText([shrunk, all, ops, peer]));
  await failure("UNAUTHENTICATED", watching, "no longer has the credentials");
  const codeAt = (address: string, key: string) =>
    clientsAt(address, writer)
      .kv.put({ key: bytes(key) })
      .then(
        () => "OK",
        (error: unknown) => CairnError.from(error).code,
      );
  for (const address of [...nodes.map((node) => node.address), ingress]) {
    await untilAsync(
      async () => (await codeAt(address, "app/a")) === "PERMISSION_DENIED",
      `${address} has the new file`,
    );
    expect(await codeAt(address, "elsewhere/a")).toBe("OK");
    await failure("UNAUTHENTICATED", clientsAt(address, reader).kv.get({ key: bytes("app/a") }));
  }
});

test("settings under which members could not prove themselves are refused at the start", async () => {
  const start = (...args: string[]) =>
    runCommand([
      "start",
      "--id",
      "n9",
      "--data",
      join(directory, "n9"),
      "--listen",
      "127.0.0.1:0",
      "--access",
      file,
      ...args,
    ]);
  const alone = await start("--join", nodes[0]!.address);
  expect([alone.code, alone.stderr]).toEqual([1, expect.stringContaining("the members could not prove to each other")]);
  const wrong = join(directory, "wrong.token");
  writeFileSync(wrong, all.token);
  const other = await start("--join", nodes[0]!.address, "--peer-token-file", wrong);
  expect(other.stderr).toContain("no caller with the role peer has the token of --peer-token-file");
});
