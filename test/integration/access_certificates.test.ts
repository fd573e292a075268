import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { expect, onTestFinished, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { openChannel } from "../../src/rpc/client.js";
import { channelOptions } from "../../src/rpc/grpc_options.js";
import { bearer, newToken, tokenHash } from "../../src/server/access/tokens.js";
import { type Issued, TestAuthority } from "../support/certificates/authority.js";
import { tlsFlags, writeNodeFiles } from "../support/certificates/node_files.js";
import { failure, until, untilAsync } from "../support/conditions.js";
import { replaceFile } from "../support/disk/replace_file.js";
import { bytes, text } from "../support/nodes/acting_leader.js";
import { collect } from "../support/nodes/loopback.js";
import { freePorts } from "../support/processes/process_cluster.js";
import { type RunningNode, runCommand, startNode } from "../support/processes/processes.js";

const IDS = ["n1", "n2", "n3"] as const;

test("callers are known by their certificates, and members by theirs, at every node and ingress process", async () => {
  const directory = await mkdtemp(join(tmpdir(), "cairn-access-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const [peers, clients] = await Promise.all([TestAuthority.create("peers"), TestAuthority.create("clients")]);
  const access = join(directory, "access.json");
  const token = newToken();
  const grants = [{ role: "writer", prefixes: ["app/"] }];
  const file = (change: object = {}) =>
    JSON.stringify({
      callers: [
        { name: "app", certificates: ["CN=app"], grants, ...change },
        { name: "viewer", certificates: ["DNS:viewer.example"], grants: [{ role: "reader" }] },
        { name: "ops", certificates: ["CN=ops"], tokens: [tokenHash(token)], grants: [{ role: "admin" }] },
      ],
    });
  writeFileSync(access, file());
  const ports = await freePorts(3);
  const list = IDS.map((id, at) => `${id}=127.0.0.1:${ports[at]}`).join(",");
  const own = await Promise.all(IDS.map((id) => peers.node("c1", id)));
  const nodes: RunningNode[] = await Promise.all(
    IDS.map(async (id, at) => {
      const files = await writeNodeFiles(join(directory, `${id}-tls`), own[at]!, { clients, peers });
      const ingress = id === "n3" ? ["--ingress", "1", "--ingress-listen", "127.0.0.1:0"] : [];
      const args = ["--cluster", list, "--access", access, ...tlsFlags(files), ...ingress];
      return startNode({ id, data: join(directory, id), listen: `127.0.0.1:${ports[at]}`, args });
    }),
  );
  const { address: ingress } = (await nodes[2]!.event("ingress")) as { address: string };
  const connect = (address: string, { key, certificate }: Issued) => {
    const pem = [peers.pem, key, certificate].map((each) => Buffer.from(each)) as [Buffer, Buffer, Buffer];
    const options = { ...channelOptions, "grpc.ssl_target_name_override": "localhost" };
    const channel = openChannel(address, { credentials: grpc.credentials.createSsl(...pem), options });
    onTestFinished(() => channel.close());
    return { kv: channel.client(KeyValueService), admin: channel.client(AdminService) };
  };
  const [app, viewer, ops, unknown] = await Promise.all([
    clients.issue({ commonName: "app" }),
    clients.issue({ commonName: "v", dns: ["viewer.example"] }),
    clients.issue({ commonName: "ops" }),
    clients.issue({ commonName: "unknown" }),
  ]);
  const key = bytes("app/a");
  const first = connect(nodes[0]!.address, app).kv;
  const put = () => first.put({ key, value: bytes("1") }, { timeoutMs: 5_000 });
  await untilAsync(
    () =>
      put().then(
        () => true,
        () => false,
      ),
    "the cluster takes writes",
  );

  for (const address of [...nodes.map((node) => node.address), ingress]) {
    const { kv } = connect(address, app);
    await kv.put({ key, value: bytes("2") });
    await failure(
      "PERMISSION_DENIED",
      kv.put({ key: bytes("other/a") }),
      'app lacks the role writer for keys with the prefix "other/"',
    );
    expect(text((await connect(address, viewer).kv.get({ key })).kv?.value)).toBe("2");
    await failure("PERMISSION_DENIED", connect(address, viewer).kv.put({ key }), "viewer lacks the role writer");
    await failure(
      "UNAUTHENTICATED",
      connect(address, unknown).kv.get({ key }),
      "no caller with a name of this certificate",
    );
    expect(await collect(kv.range({ prefix: bytes("app/") }))).toHaveLength(1);
    await failure("PERMISSION_DENIED", collect(kv.range({})));
    // A token goes before a certificate.
    const withToken = { metadata: { authorization: bearer(token) } };
    await failure("PERMISSION_DENIED", kv.put({ key }, withToken), "ops lacks the role writer");
    const forged = { "cairn-forwarded-by": "n1", "cairn-caller": "viewer" };
    await failure("PERMISSION_DENIED", kv.get({ key: bytes("other/a") }, { metadata: forged }), "app lacks the role");
  }

  // A member vouches for callers, until it is no member.
  const { admin } = connect(nodes[0]!.address, ops);
  const vouch = (caller: string, at = nodes[0]!) => {
    const metadata = { "cairn-forwarded-by": "n3", "cairn-caller": caller };
    return connect(at.address, own[2]!).kv.get({ key, stale: true }, { metadata });
  };
  expect(text((await vouch("viewer")).kv?.value)).toBe("2");
  await failure(
    "PERMISSION_DENIED",
    connect(nodes[0]!.address, own[2]!).kv.put({ key }),
    "member n3 lacks the role writer",
  );
  expect((await admin.verifyState({}, { timeoutMs: 60_000 })).allEqual).toBe(true);
  const seen: bigint[] = [];
  const watching = (async () => {
    for await (const { through } of connect(ingress, app).kv.watch({ prefix: bytes("app/") })) seen.push(through);
  })();
  watching.catch(() => {});
  await until(() => seen.length > 0, "the watch has begun");
  await replaceFile(access, file({ grants: [{ role: "reader", prefixes: ["else/"] }] }));
  await failure("PERMISSION_DENIED", watching, "app lacks the role reader for all keys of a range");

  const { leaderId } = await admin.getStatus({});
  const leader = connect(nodes[IDS.indexOf(leaderId as "n1")]!.address, ops).admin;
  if (leaderId === "n3") await leader.transferLeadership({ nodeId: "n1" });
  await untilAsync(async () => {
    const { leaderId: now } = await admin.getStatus({});
    return (
      now !== "" &&
      now !== "n3" &&
      connect(nodes[IDS.indexOf(now as "n1")]!.address, ops)
        .admin.removeMember({ nodeId: "n3" })
        .then(
          () => true,
          () => false,
        )
    );
  }, "n3 is removed");
  const isRefused = async () => (await failureCode(vouch("viewer"))) === "PERMISSION_DENIED";
  await untilAsync(isRefused, "n1 knows that n3 is no member");
  await failure("PERMISSION_DENIED", vouch("viewer"), "member n3 lacks a place among the members of this cluster");

  const refused = await runCommand([
    "start",
    "--id",
    "n9",
    "--data",
    join(directory, "n9"),
    "--peer-token-file",
    access,
    ...tlsFlags(await writeNodeFiles(join(directory, "n9-tls"), await peers.node("c1", "n9"), { clients, peers })),
  ]);
  expect(refused.stderr).toMatch(/the token must be printable|members prove themselves by their certificates/);
}, 120_000);

function failureCode(task: Promise<unknown>): Promise<string> {
  return task.then(
    () => "OK",
    (error: { code: string }) => error.code,
  );
}
