import { readFileSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { connect } from "node:tls";
import { expect, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { DevFiles } from "../../src/certificates/dev_files.js";
import { CairnClient, compare, op } from "../../src/client.js";
import { openChannel } from "../../src/rpc/client.js";
import { clientCredentials } from "../../src/rpc/security/client_tls.js";
import { newToken } from "../../src/server/access/tokens.js";
import { logFields } from "../../src/system/log_fields.js";
import { failure, until } from "../support/conditions.js";
import { replaceFile } from "../support/disk/replace_file.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { accessText, testCaller } from "../support/nodes/guarded.js";
import { type RunningNode, runCommand, startNode } from "../support/processes/processes.js";

const writer = testCaller("writer", { role: "writer", prefixes: ["app/"] });
const ops = testCaller("ops", { role: "admin" });
const stranger = newToken();
const peerToken = testCaller("members", { role: "peer" });

const KEY = "app/k3y-that-nobody-may-see";
const FORBIDDEN_KEY = "other/k3y-that-nobody-may-see";
const VALUE = "v4lue-that-nobody-may-see";

/** Everything that a log must not show, by what it is. */
function secretsOf(files: DevFiles, hashes: string): [what: string, text: string][] {
  const pair = files.node("n1");
  const pem = (path: string) => readFileSync(path, "utf8").split("\n").slice(1, -2);
  return [
    ...[writer, ops, peerToken].map(({ name, token }): [string, string] => [`the token of ${name}`, token]),
    ["a token that nobody has", stranger],
    ["a key", KEY.slice(4)],
    ["a value", VALUE],
    ["a value in base64", Buffer.from(VALUE).toString("base64").slice(0, 30)],
    ...pem(pair.keyFile).map((line): [string, string] => ["the private key", line]),
    ...pem(pair.certificateFile).map((line): [string, string] => ["the certificate", line]),
    ...[...hashes.matchAll(/sha256:(\w+)/g)].map(([, hash]): [string, string] => ["the hash of a token", hash!]),
  ];
}

/** Calls that succeed, that are refused, and that nobody can read. */
async function useIt({ address, event }: RunningNode, files: DevFiles): Promise<void> {
  const tls = { ca: files.peerAuthority.certificateFile };
  const clientOf = (token: string) => new CairnClient({ endpoints: [address], tls, token, timeoutMs: 10_000 });
  const [app, nobody] = [clientOf(writer.token), clientOf(stranger)];
  await app.put(KEY, VALUE);
  expect((await app.get(KEY))?.text()).toBe(VALUE);
  await app.txn().when(compare(KEY).value("=", VALUE)).then(op.put(KEY, VALUE)).commit();
  await failure("PERMISSION_DENIED", app.put(FORBIDDEN_KEY, VALUE));
  await failure("PERMISSION_DENIED", app.get(FORBIDDEN_KEY));
  await failure("UNAUTHENTICATED", nobody.put(KEY, VALUE));
  await Promise.all([app.close(), nobody.close()]);

  const channel = openChannel(address, { credentials: clientCredentials(tls), token: () => ops.token });
  const admin = channel.client(AdminService);
  await admin.takeSnapshot({});
  await failure("FAILED_PRECONDITION", admin.removeMember({ nodeId: "n9" }));
  await failure("PERMISSION_DENIED", channel.client(RaftService).requestVote({}));
  channel.close();

  const { url } = (await event("http")) as { url: string };
  for (const token of [ops.token, stranger]) {
    const text = `GET /keys?prefix=${Buffer.from(KEY).toString("base64url")} HTTP/1.1\r\nhost: localhost\r\n`;
    await answered(url, `${text}authorization: Bearer ${token}\r\nconnection: close\r\n\r\n`);
    // Half of a request, and one that is none.
    await answered(url, `POST /actions/snapshot HTTP/1.1\r\nauthorization: Bearer ${token}\r\n: \r\n\r\n`);
    await answered(`https://${address}`, `PRI ${token} ${VALUE}\r\n\r\n`);
  }
}

/** Sends bytes over TLS, and resolves when the server has ended the connection. */
async function answered(url: string, text: string): Promise<void> {
  const { hostname, port } = new URL(url);
  await new Promise<void>((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false }, () => {
      socket.end(text);
    });
    socket.on("error", () => resolve()).on("close", () => resolve());
    socket.resume();
  });
}

test.each(["json", "pretty"])(
  "no line in %s shows a token, a key, a value or a certificate, at the level that logs most",
  async (format) => {
    const directory = await temporaryDirectory();
    const made = await runCommand(["certs", "dev", "--out", directory, "--nodes", "n1"]);
    expect(made.code).toBe(0);
    const files = new DevFiles(directory);
    const access = join(directory, "access.json");
    const text = accessText([writer, ops]);
    writeFileSync(access, text);
    const secrets = secretsOf(files, text);
    const { certificateFile, keyFile } = files.node("n1");
    const args = ["--tls-cert", certificateFile, "--tls-key", keyFile];
    args.push("--tls-peer-ca", files.peerAuthority.certificateFile);
    args.push("--access", access, "--http", "127.0.0.1:0", "--log-level", "debug", "--log-format", format);
    const node = await startNode({ id: "n1", data: join(directory, "data"), args });
    await useIt(node, files);
    // Files that change for the worse: the error may name a place in them, and nothing of them.
    await replaceFile(access, text.replace('"callers"', `"callers": ${JSON.stringify(writer.token)}, "x"`));
    await until(() => node.command.stderr.includes("is not valid"), "the node tells of the access file");
    writeFileSync(keyFile, readFileSync(keyFile, "utf8").replace("KEY-----\n", "KEY-----\nAAAA"));
    await until(() => /TLS files|--tls-/.test(node.command.stderr), "the node tells of the key");
    await rm(certificateFile);
    await node.kill("SIGTERM");

    const lines = node.command.stderr.trimEnd().split("\n");
    for (const [what, secret] of secrets) {
      const shown = lines.find((line) => line.includes(secret));
      expect(shown, what).toBeUndefined();
    }
    expect(secrets.length).toBeGreaterThan(20);
    const joined = lines.join("\n");
    for (const audited of ["an admin call has ended", "a call was refused"]) expect(joined).toContain(audited);
    for (const line of lines) {
      if (format === "pretty") expect(line).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z (INFO |WARN |ERROR|DEBUG) n1 /);
      else {
        const { level, time, msg, ...facts } = JSON.parse(line) as Record<string, unknown>;
        expect([typeof level, typeof time, typeof msg, facts.node]).toEqual(["number", "number", "string", "n1"]);
        for (const field of Object.keys(facts)) expect(Object.keys(logFields), line).toContain(field);
      }
    }
  },
);
