import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  type KeyPairPem,
  makeAuthority,
  makeClientCertificate,
  makeNodeCertificate,
} from "../../src/certificates/issue.js";
import { alternativeName, checkHost } from "../../src/certificates/names.js";
import { failure } from "../support/conditions.js";

const DAY_MS = 86_400_000;
const NODE = { id: "n1", clusterId: "c1", hosts: ["127.0.0.1", "::1", "localhost", "*.db.example"] };

function parsed({ certificate }: KeyPairPem): X509Certificate {
  return new X509Certificate(certificate);
}

/** Shakes hands by TLS, both ends with a certificate. Returns what the server knows of the client; rejects when either end refuses. */
async function handshake(server: KeyPairPem, client: KeyPairPem, ca: { peers: string; clients: string }) {
  const listener = createServer({
    cert: server.certificate,
    key: server.key,
    ca: ca.clients,
    requestCert: true,
    rejectUnauthorized: true,
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  onTestFinished(() => void listener.close());
  const { port } = listener.address() as AddressInfo;
  const met = new Promise<TLSSocket>((resolve, reject) => {
    listener.once("secureConnection", resolve);
    listener.once("tlsClientError", reject);
  });
  const socket = connect({ host: "127.0.0.1", port, ca: ca.peers, cert: client.certificate, key: client.key });
  const failed = once(socket, "close").then(() => Promise.reject(socket.errored ?? new Error("closed")));
  try {
    const accepted = await Promise.race([Promise.all([met, once(socket, "secureConnect")]), failed]);
    return accepted[0].getPeerCertificate().subject.CN;
  } finally {
    failed.catch(() => {});
    socket.destroy();
  }
}

describe("an authority", () => {
  test("signs itself and others, and says so", async () => {
    const pair = await makeAuthority("Test, = +authority", { days: 3650 });
    const authority = parsed(pair);
    expect([authority.ca, authority.subject]).toEqual([true, "CN=Test\\, = \\+authority"]);
    expect(authority.issuer).toBe(authority.subject);
    expect(authority.verify(authority.publicKey)).toBe(true);
    expect(authority.checkPrivateKey(createPrivateKey(pair.key))).toBe(true);
    expect(authority.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: "prime256v1" });
    expect(Date.parse(authority.validTo) - Date.now()).toBeGreaterThan(3649 * DAY_MS);
  });

  test("refuses to sign when it has expired, is no authority, or its key is another", async () => {
    const [good, other] = [await makeAuthority("Good", { days: 10 }), await makeAuthority("Other", { days: 10 })];
    const old = await makeAuthority("Old", { days: 1, now: Date.now() - 2 * DAY_MS });
    const leaf = await makeClientCertificate(good, { name: "alice" }, { days: 1 });
    const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey;
    const refused = (authority: KeyPairPem, text: string) =>
      failure("INVALID_ARGUMENT", makeNodeCertificate(authority, NODE, { days: 1 }), text);
    await refused(old, "the authority has expired on");
    await refused(leaf, "is not of an authority");
    await refused({ ...good, key: other.key }, "the authority's key is not the key of its certificate");
    await refused({ ...good, key: p384.export({ type: "sec1", format: "pem" }).toString() }, "is not the key of");
    await refused({ certificate: "", key: good.key }, "must be a certificate and a private key in PEM");
  });
});

describe("a node's certificate", () => {
  test("names the node, its cluster and its hosts, and serves and calls", async () => {
    const authority = await makeAuthority("Peers", { days: 100 });
    const before = Date.now();
    const pair = await makeNodeCertificate(authority, NODE, { days: 365 });
    const node = parsed(pair);
    expect(node.subject).toBe("CN=n1");
    expect(node.ca).toBe(false);
    expect(node.subjectAltName).toBe(
      "URI:cairn://c1/node/n1, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:localhost, DNS:*.db.example",
    );
    expect(node.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    expect([node.checkIP("127.0.0.1"), node.checkHost("x.db.example")]).toEqual(["127.0.0.1", "*.db.example"]);
    expect(node.checkIssued(parsed(authority))).toBe(true);
    expect(node.verify(parsed(authority).publicKey)).toBe(true);
    // For clocks that are behind; and no longer than its authority.
    expect(before - Date.parse(node.validFrom)).toBeGreaterThan(4 * 60_000);
    expect(node.validTo).toBe(parsed(authority).validTo);
  });

  test("has a serial number of its own each time, of 64 random bits or more", async () => {
    const authority = await makeAuthority("Peers", { days: 10 });
    const made = await Promise.all(Array.from({ length: 5 }, () => makeNodeCertificate(authority, NODE, { days: 1 })));
    const serials = made.map((pair) => parsed(pair).serialNumber);
    expect(new Set(serials).size).toBe(5);
    for (const serial of serials) expect(serial.length).toBeGreaterThanOrEqual(24);
  });

  test("shakes hands with clients of the right authority, and with no others", async () => {
    const [peers, clients] = [await makeAuthority("Peers", { days: 10 }), await makeAuthority("Clients", { days: 10 })];
    const node = await makeNodeCertificate(peers, NODE, { days: 5 });
    const alice = await makeClientCertificate(clients, { name: "alice" }, { days: 5 });
    const ca = { peers: peers.certificate, clients: clients.certificate };
    expect(await handshake(node, alice, ca)).toBe("alice");
    await expect(handshake(node, node, ca)).rejects.toThrow();
    await expect(handshake(node, alice, { ...ca, peers: clients.certificate })).rejects.toThrow(/certificate/);
    // A client's certificate is not one to serve with.
    await expect(handshake(alice, alice, { peers: clients.certificate, clients: clients.certificate })).rejects.toThrow(
      /purpose/,
    );
  });

  test.each([
    ["", "idCharacters"],
    ["a/b", "idCharacters"],
  ])("is refused for the node %j", async (id, text) => {
    const authority = await makeAuthority("Peers", { days: 1 });
    await failure("INVALID_ARGUMENT", makeNodeCertificate(authority, { ...NODE, id }, { days: 1 }), text);
    await failure("INVALID_ARGUMENT", makeNodeCertificate(authority, { ...NODE, clusterId: id }, { days: 1 }), text);
  });
});

describe("a client's certificate", () => {
  test("has a common name and further names, and is for calls only", async () => {
    const authority = await makeAuthority("Clients", { days: 10 });
    const alternativeNames = ["DNS:app.example", "URI:spiffe://x/y", "EMAIL:a@b.example", "IP:10.0.0.1"];
    const subject = { name: "alice@example.com", alternativeNames: alternativeNames.map(alternativeName) };
    const client = parsed(await makeClientCertificate(authority, subject, { days: 5 }));
    expect(client.subject).toBe("CN=alice@example.com");
    expect(client.subjectAltName).toBe("DNS:app.example, URI:spiffe://x/y, email:a@b.example, IP Address:10.0.0.1");
    expect(client.keyUsage).toEqual(["1.3.6.1.5.5.7.3.2"]);
    expect(parsed(await makeClientCertificate(authority, { name: "bob" }, { days: 5 })).subjectAltName).toBeUndefined();
  });

  test("never names a node", async () => {
    for (const name of ["URI:cairn://c1/node/n1", "uri:CAIRN://c1/node/n1"]) {
      await failure("INVALID_ARGUMENT", () => alternativeName(name), "is a node's name");
    }
  });

  test.each(["", "a b", "a/b", "x".repeat(65), "a,b"])("is refused for the name %j", async (name) => {
    const authority = await makeAuthority("Clients", { days: 1 });
    await failure("INVALID_ARGUMENT", makeClientCertificate(authority, { name }, { days: 1 }), "the client's name");
  });
});

test.each(["", "a b", "127.0.0.1:7101", "300.0.0.1", "-a", "a..b", "https://a", "a.*.b"])(
  "%j is no host",
  async (host) => {
    await failure("INVALID_ARGUMENT", () => checkHost(host), "must be a DNS name or an IP address, without a port");
  },
);

test.each(["a", "DNS:", "IP:localhost", "X:y", "DNS:a b"])("%j is no further name", async (name) => {
  await failure("INVALID_ARGUMENT", () => alternativeName(name), /must be/);
});
