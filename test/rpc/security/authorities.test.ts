import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "vitest";
import { certificatesIn, isSignedBy } from "../../../src/rpc/security/authorities.js";
import { alternativeNames, nodeNamed } from "../../../src/rpc/security/caller_certificate.js";
import { TestAuthority } from "../../support/certificates/authority.js";

const certificate = (pem: string) => new X509Certificate(pem);

describe("an authority", () => {
  test("has signed a certificate directly, or through those that come with it", async () => {
    const root = await TestAuthority.create("root");
    const middle = await root.between("middle");
    const leaf = certificate((await middle.issue({ commonName: "alice" })).certificate);
    const [above, other] = [root.pem, (await TestAuthority.create("root")).pem].map(certificate);
    expect(isSignedBy(certificate(middle.pem), [above!], [])).toBe(true);
    expect(isSignedBy(leaf, [above!], [])).toBe(false);
    expect(isSignedBy(leaf, [above!], [certificate(middle.pem)])).toBe(true);
    expect(isSignedBy(leaf, [other!], [certificate(middle.pem), above!])).toBe(false);
  });

  test("is not proven by names: a chain that leads to it without its signatures counts for nothing", async () => {
    const [peers, clients] = await Promise.all([TestAuthority.create("peers"), TestAuthority.create("clients")]);
    const leaf = certificate((await clients.issue({ commonName: "mallory" })).certificate);
    // Named like the authority that did sign the leaf, and signed by one that is only named like the peers'.
    const forged = await (await TestAuthority.create("peers")).between("clients");
    expect(leaf.checkIssued(certificate(forged.pem)), "by its name it could be").toBe(true);
    expect(isSignedBy(leaf, [certificate(peers.pem)], [certificate(forged.pem), certificate(peers.pem)])).toBe(false);
  });

  test("does not lend its word to a certificate that may not sign", async () => {
    const peers = await TestAuthority.create("peers");
    const node = await peers.authorityWithout("n2");
    const leaf = certificate((await node.issue({ commonName: "n3" })).certificate);
    expect(isSignedBy(leaf, [certificate(peers.pem)], [certificate(node.pem)])).toBe(false);
  });
});

test("a bundle is read whole or not at all", async () => {
  const [one, two] = [(await TestAuthority.create("one")).pem, (await TestAuthority.create("two")).pem];
  expect(certificatesIn("f", `# made by hand\n${one}\n${two}`)).toHaveLength(2);
  for (const text of ["", "nothing", one.slice(0, -30), one + two.slice(0, 40)]) {
    expect(() => certificatesIn("f.pem", text)).toThrow(/f\.pem holds/);
  }
  const damaged = `${one.slice(0, 60)}AAAA${one.slice(64)}`;
  expect(() => certificatesIn("f.pem", damaged)).toThrow(/f\.pem holds a damaged certificate/);
});

describe("the names in a certificate", () => {
  test("are split as Node writes them, and a quoted one stays one", () => {
    expect(alternativeNames("DNS:a.example, IP Address:127.0.0.1, URI:cairn://c1/node/n1")).toEqual([
      "DNS:a.example",
      "IP Address:127.0.0.1",
      "URI:cairn://c1/node/n1",
    ]);
    const evil = 'DNS:"x, URI:cairn://c1/node/n1", DNS:b';
    expect(alternativeNames(evil)).toEqual(['DNS:"x, URI:cairn://c1/node/n1"', "DNS:b"]);
    expect(alternativeNames(undefined)).toEqual([]);
    expect(alternativeNames('DNS:"x, DNS:y')).toEqual([]);
  });

  test("name one node or none", () => {
    expect(nodeNamed(["DNS:n1", "URI:cairn://c1/node/n1"])).toEqual({ cluster: "c1", id: "n1" });
    const none = [
      [],
      ["URI:cairn://c1/node/n1", "URI:cairn://c1/node/n2"],
      ["URI:cairn://c1/node/"],
      ["URI:cairn://c1/node/n1/x"],
      ["URI:cairn://c 1/node/n1"],
      ["DNS:cairn://c1/node/n1"],
      ['URI:"cairn://c1/node/n1"'],
    ];
    for (const names of none) expect(nodeNamed(names), names.join()).toBeUndefined();
  });
});
