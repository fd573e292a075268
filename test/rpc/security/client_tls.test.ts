import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { openChannel, type SharedChannel } from "../../../src/rpc/client.js";
import { type ClientTls, clientCredentials } from "../../../src/rpc/security/client_tls.js";
import { StoredAuthority, type StoredPair, store } from "../../support/certificates/stored_authority.js";
import { serveWith, tlsServer } from "../../support/certificates/tls_server.js";
import { failure } from "../../support/conditions.js";

const DAY_MS = 86_400_000;
const CONNECT_MS = 300;

function open(address: string, tls?: ClientTls): SharedChannel {
  const channel = openChannel(address, {
    ...(tls !== undefined && { credentials: clientCredentials(tls) }),
    connectTimeoutMs: CONNECT_MS,
  });
  onTestFinished(() => channel.close());
  return channel;
}

async function ask(channel: SharedChannel): Promise<string> {
  return (await channel.client(AdminService).getStatus({}, { timeoutMs: 10_000 })).nodeId;
}

async function reason(address: string, tls?: ClientTls): Promise<string> {
  const { text } = await failure("UNREACHABLE", ask(open(address, tls)));
  const before = `${address} cannot be reached: `;
  expect(text.slice(0, before.length)).toBe(before);
  return text.slice(before.length);
}

async function listening(server: Server): Promise<string> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The settings of a client with a certificate. */
function withPair(authority: StoredAuthority, pair: StoredPair): ClientTls {
  return { ca: authority.certificateFile, certificate: pair.certificateFile, key: pair.keyFile };
}

describe("a client with TLS", () => {
  test("reaches a server by IP address, by DNS name and by the name that is set", async () => {
    const authority = await StoredAuthority.make();
    const { port } = await tlsServer(await authority.node("n1"));
    const ca = authority.certificateFile;
    expect(await ask(open(`127.0.0.1:${port}`, { ca }))).toBe("n1");
    expect(await ask(open(`localhost:${port}`, { ca }))).toBe("n1");

    const named = await tlsServer(await authority.node("db", ["db1.example", "10.0.0.9"]));
    expect(await reason(`127.0.0.1:${named.port}`, { ca })).toMatch(
      /^the server's certificate is not for 127\.0\.0\.1, but for URI:cairn:\/\/c1\/node\/db, DNS:db1\.example, IP Address:10\.0\.0\.9$/,
    );
    for (const serverName of ["db1.example", "10.0.0.9"]) {
      expect(await ask(open(`127.0.0.1:${named.port}`, { ca, serverName }))).toBe("n1");
    }
    expect(await reason(`127.0.0.1:${named.port}`, { ca, serverName: "db2.example" })).toContain("not for db2.example");
  });

  test("says that it does not trust the server's authority, and which one that is", async () => {
    const [authority, other] = [await StoredAuthority.make("One"), await StoredAuthority.make("Other")];
    const { port } = await tlsServer(await authority.node("n1"));
    const unknown = "the authority of the server's certificate, CN=One, is not one that this client trusts";
    expect(await reason(`127.0.0.1:${port}`, { ca: other.certificateFile })).toBe(unknown);
    // Without one, those that Node trusts.
    expect(await reason(`127.0.0.1:${port}`, {})).toBe(unknown);
  });

  test("says when the server's certificate has expired, or is not valid yet", async () => {
    const authority = await StoredAuthority.make();
    const ca = authority.certificateFile;
    const old = await tlsServer(await authority.node("n1", ["127.0.0.1"], Date.now() - 20 * DAY_MS));
    expect(await reason(`127.0.0.1:${old.port}`, { ca })).toMatch(
      /^the server's certificate has expired on \d{4}-\d\d-\d\dT[\d:.]+Z$/,
    );
    const early = await tlsServer(await authority.node("n1", ["127.0.0.1"], Date.now() + DAY_MS));
    expect(await reason(`127.0.0.1:${early.port}`, { ca })).toMatch(
      /^the server's certificate is valid only from \d{4}.* on: compare the clocks$/,
    );
  });

  test("says that it needs a certificate of its own, or one that the server trusts", async () => {
    const [authority, other] = [await StoredAuthority.make("One"), await StoredAuthority.make("Other")];
    const { port } = await tlsServer(await authority.node("n1"), authority.pem);
    const address = `127.0.0.1:${port}`;
    expect(await ask(open(address, withPair(authority, await authority.client("alice"))))).toBe("n1");
    expect(await reason(address, { ca: authority.certificateFile })).toBe(
      "the server demands a client certificate, and none is given",
    );
    const strange = { ...withPair(authority, await other.client("mallory")) };
    const refused =
      /^the server closed the connection after the TLS handshake: it may trust no authority of the client's/;
    expect(await reason(address, strange)).toMatch(refused);
    const expired = withPair(authority, await authority.client("bob", Date.now() - 20 * DAY_MS));
    expect(await reason(address, expired)).toMatch(refused);
  });

  test("says that the server speaks no TLS, no HTTP/2, or only old TLS", async () => {
    const authority = await StoredAuthority.make();
    const ca = authority.certificateFile;
    const plain = await serveWith(grpc.ServerCredentials.createInsecure());
    expect(await reason(`127.0.0.1:${plain.port}`, { ca })).toBe("the server speaks no TLS there");
    const { certificate: cert, key } = await authority.node("n1");
    const web = await listening(createTlsServer({ cert, key, ALPNProtocols: ["http/1.1"] }));
    expect(await reason(web, { ca })).toBe("the server speaks TLS, but no HTTP/2, so it is no gRPC server");
    const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" } as const;
    const aged = await listening(createTlsServer({ cert, key, ...old }));
    expect(await reason(aged, { ca })).toBe("the server speaks no version of TLS from 1.2 on");
  });

  test("gives up a server that is silent in the handshake, or after it", async () => {
    const authority = await StoredAuthority.make();
    const ca = authority.certificateFile;
    const silent = await listening(createServer((socket) => socket.resume()));
    expect(await reason(silent, { ca })).toBe(`connected, but no answer in ${CONNECT_MS} ms`);
    const { certificate: cert, key } = await authority.node("n1");
    const mute = await listening(createTlsServer({ cert, key, ALPNProtocols: ["h2"] }, (socket) => socket.resume()));
    expect(await reason(mute, { ca })).toBe(`connected, but no answer in ${CONNECT_MS} ms`);
  });

  test("takes changed files for new connections, and leaves those that live alone", async () => {
    const [first, second] = [await StoredAuthority.make("First"), await StoredAuthority.make("Second")];
    const files = withPair(first, await first.client("alice"));
    const one = await tlsServer(await first.node("n1"), first.pem);
    const two = await tlsServer(await second.node("n2"), second.pem);
    const credentials = clientCredentials(files);
    const channelTo = (port: number) => {
      const channel = openChannel(`127.0.0.1:${port}`, { credentials });
      onTestFinished(() => channel.close());
      return channel;
    };
    const living = channelTo(one.port);
    expect(await ask(living)).toBe("n1");
    await failure("UNREACHABLE", ask(channelTo(two.port)), "CN=Second, is not one that this client trusts");

    store(first.directory, "alice", await second.client("alice"));
    writeFileSync(files.ca!, second.pem);
    expect(await ask(channelTo(two.port))).toBe("n1");
    expect(await ask(living)).toBe("n1");
    await failure("UNREACHABLE", ask(channelTo(one.port)), "CN=First, is not one that this client trusts");

    // Half-written files change nothing, and an error says so.
    writeFileSync(files.key!, "-----BEGIN PRIVATE KEY-----\n");
    expect(await ask(channelTo(two.port))).toBe("n1");
    const noted = `(the files of before were used: the client's key ${files.key} holds no private key in PEM)`;
    const { text } = await failure("UNREACHABLE", ask(channelTo(one.port)));
    expect(text).toContain(noted);
  });
});

test("a client without TLS is told that the server may speak TLS only", async () => {
  const authority = await StoredAuthority.make();
  const { port } = await tlsServer(await authority.node("n1"));
  expect(await reason(`127.0.0.1:${port}`)).toBe(
    "the server closed the connection at once: it may speak TLS only, or take no further connections",
  );
});

test("TLS settings that cannot work are refused at once, with the file and the reason", async () => {
  const authority = await StoredAuthority.make();
  const { certificateFile, keyFile } = await authority.client("alice");
  const bob = await authority.client("bob");
  const empty = join(authority.directory, "empty");
  writeFileSync(empty, "");
  const damaged = join(authority.directory, "damaged");
  writeFileSync(damaged, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
  const refused = (tls: object, text: string) =>
    failure("INVALID_ARGUMENT", () => clientCredentials(tls as ClientTls), text);
  await refused({ ca: "/no/such.crt" }, "the authority's certificate /no/such.crt cannot be read: ENOENT");
  await refused(
    { ca: empty },
    `the authority's certificate ${empty} holds no certificate: it must hold whole certificates in PEM`,
  );
  await refused({ ca: damaged }, `the authority's certificate ${damaged} holds a damaged certificate`);
  await refused({ ca: 7 }, "ca must be the path of a PEM file");
  await refused({ certificate: certificateFile }, "the client's certificate is given, but not the client's key");
  await refused({ key: keyFile }, "the client's key is given, but not the client's certificate");
  await refused(
    { certificate: certificateFile, key: bob.keyFile },
    `${bob.keyFile} is not the key of ${certificateFile}`,
  );
  await refused({ certificate: certificateFile, key: empty }, `the client's key ${empty} holds no private key in PEM`);
  const encrypted = join(authority.directory, "encrypted.key");
  const cipher = { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" } as const;
  writeFileSync(encrypted, createPrivateKey(bob.key).export(cipher));
  await refused({ certificate: bob.certificateFile, key: encrypted }, "is encrypted: store it without a passphrase");
  await refused({ serverName: "https://x" }, "serverName must be a DNS name or an IP address");
});
