import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { expect, onTestFinished, test } from "vitest";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../../gen/cairn/v1/raft_pb.js";
import { CairnClient } from "../../../src/client/client.js";
import { ChannelPool } from "../../../src/rpc/channel_pool.js";
import { openChannel } from "../../../src/rpc/client.js";
import { NodeTls } from "../../../src/rpc/security/node_tls.js";
import { AccessControl } from "../../../src/server/access/access_control.js";
import { bearer, newToken, tokenHash } from "../../../src/server/access/tokens.js";
import { CairnServer, type ServerOptions } from "../../../src/server/server.js";
import { type Issued, TestAuthority } from "../../support/certificates/authority.js";
import { writeNodeFiles } from "../../support/certificates/node_files.js";
import { store } from "../../support/certificates/stored_authority.js";
import { failure, until } from "../../support/conditions.js";
import { replaceFile } from "../../support/disk/replace_file.js";
import { temporaryDirectory } from "../../support/disk/temporary_directory.js";
import { bytes } from "../../support/nodes/acting_leader.js";
import type { LogLine } from "../../support/nodes/guarded.js";
import { CLUSTER, memoryHome } from "../../support/nodes/nodes.js";

const ONE_KEY = { key: bytes("k"), value: bytes("v") };
const VOTE = { clusterId: CLUSTER, candidateId: "n2", term: 9n };

const token = newToken();

function textOf(revoked: readonly string[]): string {
  const grants = [{ role: "writer" }];
  const callers = [{ name: "alice", certificates: ["CN=alice"], tokens: [tokenHash(token)], grants }];
  return JSON.stringify({ health: "known", callers, revoked });
}

/** A node with TLS and an access file, and clients of it. */
async function serveKnown(options: Partial<ServerOptions> = {}) {
  const directory = await temporaryDirectory();
  const [peers, clients] = await Promise.all([TestAuthority.create("peers"), TestAuthority.create("clients")]);
  const own = await peers.node(CLUSTER, "n1");
  const security = await NodeTls.open(await writeNodeFiles(join(directory, "tls"), own, { clients, peers }));
  const file = join(directory, "access.json");
  writeFileSync(file, textOf([]));
  const lines: LogLine[] = [];
  const log = (facts: object) => void lines.push({ ...facts });
  const access = AccessControl.open({
    file,
    peerProof: "certificate",
    logger: { debug: () => {}, info: log, warn: log, error: log },
  });
  const node = await memoryHome().startLeader({});
  const server = await CairnServer.start(node, { listen: "127.0.0.1:0", security, accessControl: access, ...options });
  onTestFinished(async () => {
    await server.stop();
    access.close();
    security.close();
  });
  const connect = ({ key, certificate }: Issued) => {
    const pem = [peers.pem, key, certificate].map((text) => Buffer.from(text)) as [Buffer, Buffer, Buffer];
    const channel = openChannel(server.address, { credentials: grpc.credentials.createSsl(...pem) });
    onTestFinished(() => channel.close());
    return { kv: channel.client(KeyValueService), raft: channel.client(RaftService) };
  };
  const revoke = async (...certificates: Issued[]) => {
    const before = access.generation;
    await replaceFile(file, textOf(certificates.map(fingerprint)));
    await until(() => access.generation > before, "the file is read again");
  };
  return { directory, file, lines, peers, clients, own, security, access, server, connect, revoke };
}

function fingerprint({ certificate }: Issued): string {
  return new X509Certificate(certificate).fingerprint256;
}

test("a revoked certificate ends the streams of its client, which comes back with another one", async () => {
  const { directory, peers, clients, server, connect, revoke } = await serveKnown();
  const stolen = await clients.issue({ commonName: "alice" });
  const { kv } = connect(stolen);
  await kv.put(ONE_KEY);
  const seen: unknown[] = [];
  const watching = (async () => {
    for await (const answer of kv.watch({})) seen.push(answer);
  })();
  watching.catch(() => {});
  await until(() => seen.length > 0, "the watch has begun");
  const { certificateFile, keyFile } = store(directory, "alice", stolen);
  const ca = join(directory, "ca.pem");
  writeFileSync(ca, peers.pem);
  const client = new CairnClient({
    endpoints: [server.address],
    tls: { ca, certificate: certificateFile, key: keyFile },
  });
  onTestFinished(() => client.close());
  await client.put("k", "1");

  store(directory, "alice", await clients.issue({ commonName: "alice" }));
  await revoke(stolen);
  await failure("UNAUTHENTICATED", watching, "the access file has revoked the certificate of this connection");
  await failure("UNAUTHENTICATED", kv.put(ONE_KEY), "connect with another one");
  // A token does not make up for it.
  await failure("UNAUTHENTICATED", kv.put(ONE_KEY, { metadata: { authorization: bearer(token) } }));
  // The node has closed the connection of the client, which has read its new certificate for the next.
  await client.put("k", "2");
});

test("a revoked certificate of a member is refused at both ends of a connection", async () => {
  const { peers, own, security, server, connect, revoke } = await serveKnown();
  const second = await peers.node(CLUSTER, "n2");
  const { raft } = connect(second);
  // The certificate is good: what is missing is found out behind it.
  await failure("INVALID_ARGUMENT", raft.requestVote(VOTE), "header is missing");
  await revoke(second, own);
  await failure("UNAUTHENTICATED", raft.requestVote(VOTE), "has revoked the certificate");
  const members = new ChannelPool({}, security);
  onTestFinished(() => members.close());
  const toItself = members.get(server.address, "n1").client(KeyValueService);
  await failure("UNREACHABLE", toItself.get(ONE_KEY, { timeoutMs: 5_000 }), "is revoked by the access file");
});

test("only a member's certificate has the room of members", async () => {
  const { peers, clients, connect } = await serveKnown({ limits: { connections: 1 } });
  const alice = await clients.issue({ commonName: "alice" });
  await connect(alice).kv.put(ONE_KEY);
  await failure("BUSY", connect(alice).raft.requestVote(VOTE), "the limit connections is 1");
  const { raft } = connect(await peers.node(CLUSTER, "n2"));
  await failure("INVALID_ARGUMENT", raft.requestVote(VOTE), "header is missing");
});

test("a file that would let members prove themselves by a token is not put in force with TLS", async () => {
  const { file, access, lines, clients, connect } = await serveKnown();
  const peerToken = newToken();
  const members = { name: "members", tokens: [tokenHash(peerToken)], grants: [{ role: "peer" }] };
  await replaceFile(file, JSON.stringify({ callers: [members] }));
  const text = "members prove themselves by their certificates here, so no caller may have the role peer";
  await until(() => lines.some(({ reason }) => `${reason}`.includes(text)), "the file is refused");
  expect(access.generation).toBe(0);
  const { raft, kv } = connect(await clients.issue({ commonName: "alice" }));
  const withToken = { metadata: { authorization: bearer(peerToken) } };
  await failure("UNAUTHENTICATED", raft.requestVote(VOTE, withToken), "the access file has no caller with this token");
  await kv.put(ONE_KEY);
});
