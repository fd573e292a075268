import { appendFile, mkdtemp, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { AdminService, CertificateUse } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { Contacts } from "../../src/daemon/contacts.js";
import { grpcTransport } from "../../src/peers/grpc_transport.js";
import { plainQuestion } from "../../src/raft/membership/introduction.js";
import { ChannelPool } from "../../src/rpc/channel_pool.js";
import { openChannel } from "../../src/rpc/client.js";
import { NodeTls, type TlsEvent } from "../../src/rpc/security/node_tls.js";
import type { NodeTlsFiles } from "../../src/rpc/security/tls_material.js";
import { There } from "../../src/server/admin/verify_member.js";
import { CairnServer, type ServerOptions } from "../../src/server/server.js";
import { type Issued, TestAuthority } from "../support/certificates/authority.js";
import { writeNodeFiles } from "../support/certificates/node_files.js";
import { untilAsync } from "../support/conditions.js";
import { replaceFile } from "../support/disk/replace_file.js";
import { CLUSTER, memoryHome } from "../support/nodes/nodes.js";
import { collect, headerTo } from "../support/nodes/served_node.js";

let directory: string;
let peers: TestAuthority;
let clients: TestAuthority;
let nextDirectory = 0;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-tls-"));
  [peers, clients] = await Promise.all([TestAuthority.create("peers"), TestAuthority.create("clients")]);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** Files of n1, in a directory of their own. */
async function filesOf(issued?: Issued): Promise<NodeTlsFiles & { clientCa: string; peerCa: string }> {
  const own = issued ?? (await peers.node(CLUSTER, "n1"));
  return writeNodeFiles(join(directory, `${nextDirectory++}`), own, { clients, peers });
}

/** Serves n1, which leads alone, with these files. */
async function serve(files: NodeTlsFiles, options: Partial<ServerOptions> = {}) {
  const events: TlsEvent[] = [];
  const security = await NodeTls.open(files, { node: "n1", onEvent: (event) => void events.push(event) });
  const node = await memoryHome().startLeader({});
  const server = await CairnServer.start(node, { listen: "127.0.0.1:0", security, discoverable: false, ...options });
  onTestFinished(async () => {
    await server.stop();
    security.close();
  });
  return { node, server, security, events, address: server.address };
}

/** Clients of a server that trust the authority of members, with this certificate of their own. */
function connect(address: string, own?: Issued, authority = peers) {
  const key = own && Buffer.from(own.key);
  const certificate = own && Buffer.from(own.certificate);
  const credentials = grpc.credentials.createSsl(Buffer.from(authority.pem), key, certificate);
  const channel = openChannel(address, { credentials });
  onTestFinished(() => channel.close());
  return {
    kv: channel.client(KeyValueService),
    admin: channel.client(AdminService),
    raft: channel.client(RaftService),
  };
}

async function failureOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => new Error("it was answered"),
    (thrown: unknown) => thrown,
  );
  return error instanceof CairnError ? `${error.code}: ${error.text}` : String(error);
}

const ONE_KEY = { key: Buffer.from("k"), value: Buffer.from("v") };

test("a node that starts while its files are replaced takes them when they fit together", async () => {
  const files = await filesOf();
  const next = await peers.node(CLUSTER, "n1");
  await replaceFile(files.certificate, next.certificate);
  const opening = NodeTls.open(files, { node: "n1" });
  await replaceFile(files.key, next.key);
  const security = await opening;
  security.close();
  await replaceFile(files.key, (await peers.node(CLUSTER, "n1")).key);
  expect(await failureOf(NodeTls.open(files, { node: "n1" }))).toMatch(/cannot be used together/);
});

describe("a server with TLS", () => {
  test("serves clients of its authority, and neither others nor those without a certificate", async () => {
    const { address, events } = await serve(await filesOf());
    const alice = connect(address, await clients.issue({ commonName: "alice" }));
    expect(await alice.kv.put(ONE_KEY)).toMatchObject({ version: 2n });
    const strangers = await TestAuthority.create("clients");
    const mallory = connect(address, await strangers.issue({ commonName: "alice" }));
    expect(await failureOf(mallory.kv.put(ONE_KEY, { timeoutMs: 5_000 }))).toMatch(/^UNREACHABLE/);
    expect(await failureOf(connect(address).kv.put(ONE_KEY, { timeoutMs: 5_000 }))).toMatch(/^UNREACHABLE/);
    const plain = openChannel(address);
    onTestFinished(() => plain.close());
    expect(await failureOf(plain.client(KeyValueService).put(ONE_KEY))).toMatch(/^UNREACHABLE/);
    // The second refusal within a minute is counted only.
    expect(events.filter(({ kind }) => kind === "refused")).toHaveLength(1);
  });

  test("needs no certificate of clients when it has no authority of theirs, and refuses a bad one", async () => {
    const { clientCa: _, ...files } = await filesOf();
    const { address } = await serve(files);
    expect(await connect(address).kv.put(ONE_KEY)).toMatchObject({ version: 2n });
    const alice = connect(address, await clients.issue({ commonName: "alice" }));
    expect(await failureOf(alice.kv.put(ONE_KEY))).toMatch(/^UNREACHABLE|^OUTCOME_UNKNOWN/);
  });

  test("shows members another certificate than clients, when it has two", async () => {
    const files = await filesOf(await clients.issue({ commonName: "db.example" }));
    const own = await peers.node(CLUSTER, "n1");
    const peerFiles = await filesOf(own);
    const { address, node } = await serve({
      ...files,
      peerCertificate: peerFiles.certificate,
      peerKey: peerFiles.key,
    });
    const alice = connect(address, await clients.issue({ commonName: "alice" }), clients);
    const { certificates } = await alice.admin.getStatus({});
    expect(certificates.map(({ use, subject }) => [CertificateUse[use], subject])).toEqual([
      ["SERVER", "CN=db.example"],
      ["PEER", "CN=n1"],
      ["CLIENT_CA", "CN=clients"],
      ["PEER_CA", "CN=peers"],
    ]);
    const other = await NodeTls.open(await filesOf(await peers.node(CLUSTER, "n2")));
    onTestFinished(() => other.close());
    const channel = openChannel(address, { credentials: other.to("n1") });
    onTestFinished(() => channel.close());
    const request = { ...vote(node), ...asSender(node, "n2") };
    expect(await channel.client(RaftService).requestVote(request)).toMatchObject({ voteGranted: false });
  });
});

function vote(node: Parameters<typeof headerTo>[0]) {
  return { header: headerTo(node), term: 1n, candidateId: "n9", lastLogIndex: 0n, lastLogTerm: 0n };
}

function asSender(node: Parameters<typeof headerTo>[0], senderId: string) {
  return { header: headerTo(node, { senderId }), candidateId: senderId, leaderId: senderId };
}

describe("RaftService with TLS", () => {
  test("is for members in their own names, in every method that names its sender (T9)", async () => {
    const { address, node } = await serve(await filesOf());
    const n2 = connect(address, await peers.node(CLUSTER, "n2"));
    expect(await n2.raft.requestVote({ ...vote(node), ...asSender(node, "n2") })).toMatchObject({ voteGranted: false });
    const calls = (raft: typeof n2.raft, id: string) => {
      const sender = asSender(node, id);
      const append = raft.appendEntries();
      const install = raft.installSnapshot();
      const answers = [collect(append.responses), collect(install.responses)];
      append.send({ ...sender, term: 1n }).catch(() => {});
      const offer = { ...sender, term: 1n, index: 9n, snapshotTerm: 1n, fileBytes: 9n, sha256: new Uint8Array(32) };
      install.send({ message: { case: "offer", value: offer } }).catch(() => {});
      const incarnation = new Uint8Array(16);
      const join = { protocolVersion: 2, clusterId: CLUSTER, name: id, incarnation, address: "h:1", cameBy: 1 };
      return [
        raft.requestVote({ ...vote(node), ...sender }),
        ...answers,
        raft.timeoutNow({ ...sender, term: 1n }),
        raft.introduce({ protocolVersion: 2, name: id }),
        raft.join(join, { timeoutMs: 5_000 }),
      ].map(failureOf);
    };
    const { term } = node.raft;
    for (const failure of await Promise.all(calls(n2.raft, "n3"))) {
      expect(failure).toMatch(/^PERMISSION_DENIED: cairn:.* is refused: .*names "n3", and the certificate n2$/);
    }
    const elsewhere = connect(address, await peers.node("another", "n2"));
    for (const failure of await Promise.all(calls(elsewhere.raft, "n2"))) {
      expect(failure).toMatch(/^PERMISSION_DENIED: cairn:\/\/another\/node\/n2 is refused: this node is of cluster/);
    }
    const alice = connect(address, await clients.issue({ commonName: "alice" }));
    for (const failure of await Promise.all(calls(alice.raft, "n2"))) {
      expect(failure).toMatch(/^PERMISSION_DENIED: the client "alice" is refused: RaftService is for members/);
    }
    // A client's authority cannot make members, whatever names it puts into a certificate.
    const forged = connect(address, await clients.issue({ commonName: "n2", uris: [`cairn://${CLUSTER}/node/n2`] }));
    for (const failure of await Promise.all(calls(forged.raft, "n2"))) expect(failure).toMatch(/^PERMISSION_DENIED/);
    expect(node.raft.term).toBe(term);
    expect(node.protocol.warnings).toEqual([expect.stringMatching(/^24 message\(s\) whose senders are not members/)]);
  });

  test("refuses everybody when the node has no authority of members", async () => {
    const { peerCa: _, ...files } = await filesOf();
    const { address, node } = await serve(files);
    const alice = connect(address, await clients.issue({ commonName: "alice" }));
    expect(await failureOf(alice.raft.requestVote(vote(node)))).toMatch(/no authority of members \(--tls-peer-ca\)/);
  });

  test("a member that dials accepts the certificate of the member that it means alone (T9)", async () => {
    const { address } = await serve(await filesOf());
    const own = await NodeTls.open(await filesOf(await peers.node(CLUSTER, "n2")));
    onTestFinished(() => own.close());
    const changes: string[] = [];
    const onChange = (_peer: unknown, error?: CairnError) => void changes.push(error?.text ?? "answers");
    const events = { answer: () => {}, unreachable: () => {} };
    const transport = grpcTransport({ members: own, onChange })({ id: "n2", clusterId: CLUSTER }, events);
    onTestFinished(() => transport.close());
    const prev = { index: 0, term: 0 };
    const message = {
      type: "append_entries",
      from: "n2",
      term: 1,
      prev,
      entries: [],
      leaderCommit: 0,
      round: 1,
    } as const;
    transport.send({ id: "n3", address }, { ...message, to: "n3" });
    await untilAsync(async () => changes.length > 0, "the wrong member is refused");
    expect(changes[0]).toContain(`is for cairn://${CLUSTER}/node/n1, not for cairn://${CLUSTER}/node/n3`);
  });
});

test("everything else that dials a member means that member, too (T9)", async () => {
  const { address } = await serve(await filesOf());
  const own = await NodeTls.open(await filesOf(await peers.node(CLUSTER, "n2")));
  const refusals: string[] = [];
  const contacts = new Contacts(own, ({ name }, { text }) => void refusals.push(`${name}: ${text}`));
  // Calls that are passed on, and the search for a snapshot.
  const pool = new ChannelPool({ connectTimeoutMs: 5_000 }, own);
  onTestFinished(() => {
    contacts.close();
    pool.close();
    own.close();
  });
  const ask = (name: string | undefined) => contacts.ask({ name, address }, plainQuestion("n2", name ?? ""));
  expect(await ask("n1")).toMatchObject({ name: "n1" });
  expect(await ask(undefined)).toMatchObject({ name: "n1" });
  expect(await ask("n3")).toBeUndefined();
  expect(refusals).toEqual([expect.stringMatching(/^n3: .*is for cairn:.*n1, not for cairn:.*n3/)]);
  const statusOf = (name: string) => pool.get(address, name).client(AdminService).getStatus({});
  expect((await statusOf("n1")).nodeId).toBe("n1");
  expect(await failureOf(statusOf("n3"))).toMatch(/^UNREACHABLE: .*not for cairn:.*n3/);
  const comparing = new There("n3", address, CLUSTER, own);
  onTestFinished(() => comparing.close());
  expect(await failureOf(comparing.progress(new AbortController().signal))).toMatch(/^UNREACHABLE: .*not for cairn/);
});

describe("changed files", () => {
  test("are used for new connections, while the old ones live on; bad ones are reported, and not used", async () => {
    const files = await filesOf();
    const { address, security, events } = await serve(files);
    // From here on, only this test looks.
    security.close();
    const alice = await clients.issue({ commonName: "alice" });
    const old = connect(address, alice);
    await old.kv.put(ONE_KEY);
    const others = await TestAuthority.create("other peers");

    // Half a file, then a key of another certificate, each seen twice.
    await truncate(files.certificate, 100);
    await security.look();
    expect(events, "it may be on its way").toEqual([]);
    await security.look();
    await security.look();
    expect(events).toMatchObject([{ kind: "rejected", reason: expect.stringContaining("node.pem") }]);
    const next = await others.node(CLUSTER, "n1");
    await replaceFile(files.certificate, next.certificate);
    await security.look();
    await security.look();
    expect(events.at(-1)).toMatchObject({ reason: expect.stringContaining("cannot be used together") });
    expect((await old.admin.getStatus({})).warnings).toEqual([expect.stringContaining("the old certificates stay")]);
    await connect(address, alice).kv.put(ONE_KEY);

    // The authority is not there yet, then it is; and another node's certificate never is.
    await replaceFile(files.key, next.key);
    await security.look();
    await security.look();
    expect(events.at(-1)).toMatchObject({ reason: expect.stringContaining("is not signed by an authority in") });
    await appendFile(files.peerCa, others.pem);
    await security.look();
    expect(events.at(-1)).toMatchObject({ kind: "reloaded" });
    expect((await old.admin.getStatus({})).warnings).toEqual([]);
    await connect(address, alice, others).kv.put(ONE_KEY);
    expect(await failureOf(connect(address, alice, peers).kv.put(ONE_KEY))).toMatch(/^UNREACHABLE/);
    const another = await peers.node(CLUSTER, "n2");
    await replaceFile(files.certificate, another.certificate);
    await replaceFile(files.key, another.key);
    await security.look();
    await security.look();
    expect(events.at(-1)).toMatchObject({ reason: expect.stringContaining("is now the certificate of node n2") });

    // Back to what is in use: nothing is wrong any longer.
    await replaceFile(files.certificate, next.certificate);
    await replaceFile(files.key, next.key);
    await security.look();
    expect(security.warnings).toEqual([]);
    await old.kv.put(ONE_KEY);
  });

  test("are read without being told", async () => {
    const files = await filesOf();
    const { events } = await serve(files);
    const next = await peers.node(CLUSTER, "n1");
    await replaceFile(files.key, next.key);
    await replaceFile(files.certificate, next.certificate);
    await untilAsync(async () => events.some(({ kind }) => kind === "reloaded"), "the new certificate is in use");
  });
});

test("a certificate that ends soon is reported at its steps, and shown in the status", async () => {
  const { security, address, events } = await serve(await filesOf(await peers.node(CLUSTER, "n1", 6)));
  const text = expect.stringMatching(/^the certificate of CN=n1 in .* ends at .*, in 5 days: replace the file$/);
  expect(events).toEqual([{ kind: "expiring", text }]);
  await security.look();
  expect(events).toHaveLength(1);
  const alice = connect(address, await clients.issue({ commonName: "alice" }));
  const { warnings, certificates } = await alice.admin.getStatus({});
  expect(warnings).toEqual([text]);
  expect(Number(certificates[0]!.expiresUnixMs)).toBe(security.certificates[0]!.expiresMs);
});

describe("a start with bad files says what is wrong", () => {
  test.each([
    ["another node's certificate", () => peers.node(CLUSTER, "n2"), /is the certificate of node n2 of cluster .*, and/],
    ["no node in the certificate", () => peers.issue({ commonName: "n1" }), /does not say for which node it is made/],
    ["another authority", () => clients.node(CLUSTER, "n1"), /is not signed by an authority in/],
  ])("%s", async (_title, issue, expected) => {
    const files = await filesOf(await issue());
    expect(await failureOf(NodeTls.open(files, { node: "n1" }))).toMatch(expected);
  });

  test("a file that is missing, and a bundle that is cut off", async () => {
    const files = await filesOf();
    await appendFile(files.peerCa, (await TestAuthority.create("next")).pem.slice(0, 200));
    expect(await failureOf(NodeTls.open(files))).toMatch(/peers.pem holds something that is cut off/);
    await rm(files.key);
    expect(await failureOf(NodeTls.open(files))).toMatch(/^INVALID_ARGUMENT: .*node.key cannot be read/);
  });
});

describe("without TLS", () => {
  test.each(["0.0.0.0:0", "[::]:0", "10.0.0.1:7101", "db.example:7101"])("%s is refused", async (listen) => {
    const node = await memoryHome().startLeader({});
    const failure = await failureOf(CairnServer.start(node, { listen }));
    expect(failure).toMatch(/^INVALID_ARGUMENT: whoever reaches .*--tls-cert and --tls-key.*--insecure/);
  });

  test("a server that is insecure on purpose says so", async () => {
    const warnings: string[] = [];
    const logger = { debug() {}, info() {}, error() {}, warn: (_: object, text: string) => void warnings.push(text) };
    const node = await memoryHome().startLeader({});
    const server = await CairnServer.start(node, { listen: "0.0.0.0:0", insecure: true, logger });
    onTestFinished(() => server.stop());
    expect(warnings).toEqual([expect.stringMatching(/^INSECURE/)]);
  });
});
