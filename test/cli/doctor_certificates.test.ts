import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { type Certificate, CertificateSchema, CertificateUse } from "../../gen/cairn/v1/admin_pb.js";
import { certificateFindings, tells } from "../../src/cli/commands/doctor/certificate_findings.js";
import { configFindings } from "../../src/cli/commands/doctor/config_findings.js";
import { configuredNode } from "../../src/cli/commands/doctor/configured_node.js";
import type { DoctorFinding } from "../../src/cli/commands/doctor/findings.js";
import { expiryWarning } from "../../src/rpc/security/expiry.js";
import { TestAuthority } from "../support/certificates/authority.js";
import { writeNodeFiles } from "../support/certificates/node_files.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";

const DAY_MS = 24 * 3_600_000;
const NOW = Date.parse("2026-06-01T00:00:00Z");

interface Given {
  readonly cluster?: string;
  readonly id?: string;
  readonly startDays?: number;
  readonly endDays?: number;
  readonly host?: string;
}

function certificate(id: string, given: Given = {}): Certificate {
  const { cluster = "c1", startDays = -100, endDays = 100, host = "10.0.0.1" } = given;
  return create(CertificateSchema, {
    use: CertificateUse.SERVER,
    subject: `CN=${id}`,
    file: `${id}.pem`,
    startsUnixMs: BigInt(NOW + startDays * DAY_MS),
    expiresUnixMs: BigInt(NOW + endDays * DAY_MS),
    names: [`IP Address:${host}`, "DNS:db.example", `URI:cairn://${cluster}/node/${given.id ?? id}`],
  });
}

function member(id: string, ...certificates: Certificate[]) {
  return { member: { id, address: "10.0.0.1:7101" }, status: { certificates } };
}

function bad(findings: readonly DoctorFinding[]): string[] {
  for (const { level, advice } of findings) expect(advice === undefined).toBe(level === "ok");
  return findings.filter(({ level }) => level !== "ok").map(({ level, text }) => `${level}: ${text}`);
}

describe("the doctor's verdict on certificates in use", () => {
  const judge = (...members: ReturnType<typeof member>[]) => certificateFindings(members, NOW);

  test("is good for members whose certificates last, and says when the first ends", () => {
    const findings = judge(member("n1", certificate("n1")), member("n2", certificate("n2", { endDays: 50 })));
    expect(findings.map(({ level, text }) => `${level}: ${text}`)).toEqual([
      "ok: n1 has 1 certificate; the first, CN=n1, ends at 2026-09-09T00:00:00Z",
      "ok: n2 has 1 certificate; the first, CN=n2, ends at 2026-07-21T00:00:00Z",
    ]);
  });

  test("says nothing of a cluster without TLS", () => expect(judge(member("n1"), member("n2"))).toEqual([]));

  test.each([
    [
      "has ended",
      { endDays: -2 },
      "problem: n2: the certificate of CN=n2 in n2.pem has ended at 2026-05-30T00:00:00.000Z",
    ],
    [
      "ends soon",
      { endDays: 9 },
      "warning: n2: the certificate of CN=n2 in n2.pem ends at 2026-06-10T00:00:00.000Z, in 9 days",
    ],
    [
      "has not begun",
      { startDays: 1 },
      "problem: n2: the certificate of CN=n2 in n2.pem is valid only from 2026-06-02T00:00:00Z on",
    ],
    ["is another node's", { id: "n3" }, "problem: n2 uses the certificate of node n3"],
    [
      "is for another host",
      { host: "10.0.0.9" },
      "warning: n2 is reached at 10.0.0.1:7101, and n2.pem is not for that host",
    ],
    ["names another cluster", { cluster: "c2" }, "problem: that of n1 names cluster c1, that of n2 names cluster c2"],
  ])("names one that %s", (_, given, expected) => {
    expect(bad(judge(member("n1", certificate("n1")), member("n2", certificate("n2", given))))).toEqual([expected]);
  });

  test("names members without TLS among others with it", () => {
    expect(bad(judge(member("n1", certificate("n1")), member("n2")))).toEqual([
      "problem: n2 uses no TLS, and the others do",
    ]);
  });

  test("knows the node's own warnings about its certificates, which say the same", () => {
    const used = certificate("n1", { endDays: 5 });
    const { subject, file, startsUnixMs, expiresUnixMs } = used;
    const dates = { startsMs: Number(startsUnixMs), expiresMs: Number(expiresUnixMs) };
    const warning = expiryWarning({ use: "server", subject, file, ...dates }, NOW)!;
    expect(tells([used], warning)).toBe(true);
    expect(tells([used], "the disk is full")).toBe(false);
  });
});

describe("the doctor's verdict on the certificates of a config file", () => {
  /** A directory with a node's files and its config file. */
  async function configured(given: { readonly id?: string; readonly days?: number } = {}) {
    const directory = join(await temporaryDirectory(), "tls");
    await mkdir(directory);
    const [clients, peers] = [await TestAuthority.create("clients"), await TestAuthority.create("peers")];
    const files = await writeNodeFiles(directory, await peers.node("c1", "n1", given.days), { clients, peers });
    await chmod(files.key, 0o600);
    const config = join(directory, "n1.json");
    const flags = { "tls-cert": files.certificate, "tls-key": files.key, "tls-peer-ca": files.peerCa };
    await writeFile(config, JSON.stringify({ id: given.id ?? "n1", ...flags }));
    return { config, files, clients, peers };
  }

  const look = async (config: string, owner?: string) =>
    bad(await configFindings(configuredNode(config), owner, Date.now()));

  test("is good for files that go together", async () => {
    const { config } = await configured();
    expect(await look(config)).toEqual([]);
    expect(await look(config, "n1")).toEqual([]);
  });

  test("names a key that others may read", async () => {
    const { config, files } = await configured();
    await chmod(files.key, 0o644);
    expect(await look(config)).toEqual([
      `warning: ${files.key} may be read or changed by others than its owner (mode 644)`,
    ]);
  });

  test("names a certificate that ends soon, another node's, and one that no member would accept", async () => {
    expect((await look((await configured({ days: 3 })).config))[0]).toMatch(/^warning: .* ends at .*, in [23] days$/);
    const other = await configured({ id: "n2" });
    expect((await look(other.config))[0]).toMatch(
      /^problem: .* certificate of node n1 of cluster c1, and this node is n2/,
    );
    const { config, files } = await configured();
    await writeFile(files.peerCa, (await TestAuthority.create("strangers")).pem);
    expect((await look(config))[0]).toMatch(/^problem: .* is not signed by an authority/);
  });

  test("names a key that does not fit, and a file that is not there", async () => {
    const { config, files, peers } = await configured();
    await writeFile(files.key, (await peers.node("c1", "n1")).key);
    expect((await look(config))[0]).toMatch(/^problem: .*cannot be used together/);
    const other = await configured();
    await writeFile(
      other.config,
      JSON.stringify({ id: "n1", "tls-cert": "/nowhere/n1.pem", "tls-key": other.files.key }),
    );
    expect((await look(other.config))[0]).toMatch(/^problem: \/nowhere\/n1.pem cannot be read/);
  });

  test("names the config file of another node than the directory's", async () => {
    const { config } = await configured();
    expect(await look(config, "n7")).toEqual(["problem: it is for node n1, and the directory belongs to n7"]);
  });

  test("is not given for a config file that a start refuses", async () => {
    const { config } = await configured();
    await writeFile(config, JSON.stringify({ "tls-cert": "n1.pem" }));
    expect(() => configuredNode(config)).toThrow(/TLS needs both --tls-cert and --tls-key/);
    await writeFile(config, JSON.stringify({ unheard: 1 }));
    expect(() => configuredNode(config)).toThrow(/unknown key "unheard"/);
  });
});
