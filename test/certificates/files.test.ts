import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readAuthority, writeCertificates } from "../../src/certificates/certificate_files.js";
import { describeCertificates } from "../../src/certificates/describe.js";
import { DevFiles, pairPaths } from "../../src/certificates/dev_files.js";
import { makeAuthority, makeClientCertificate } from "../../src/certificates/issue.js";
import { type FileSystem, nodeFileSystem } from "../../src/system/fs.js";
import { failure } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";

const PAIR = { certificate: "the certificate", key: "the key" };

/** All files below a directory, with their contents. */
function filesIn(directory: string): Record<string, string> {
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" }).sort();
  const files = names.filter((name) => statSync(join(directory, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(directory, name), "utf8")]));
}

/** A file system whose nth rename fails. */
function failingAt(rename: number): FileSystem {
  let renames = 0;
  return Object.assign(Object.create(nodeFileSystem) as FileSystem, {
    rename: async (from: string, to: string) => {
      if (++renames === rename) throw new Error("as the test wants it");
      return nodeFileSystem.rename(from, to);
    },
  });
}

describe("certificates and keys", () => {
  test("are written for their user alone, and replaced only on purpose", async () => {
    const directory = await temporaryDirectory();
    const paths = pairPaths(join(directory, "new", "deep"), "n1");
    await writeCertificates(nodeFileSystem, [{ ...PAIR, ...paths }]);
    expect(filesIn(directory)).toEqual({ "new/deep/n1.crt": "the certificate", "new/deep/n1.key": "the key" });
    for (const file of Object.values(paths)) expect(statSync(file).mode & 0o777).toBe(0o600);

    const other = { certificate: "another", key: "its key", ...paths };
    const text = /n1\.key, .*n1\.crt exist already, and nothing was written: .* or give --force to replace$/;
    await failure("FAILED_PRECONDITION", writeCertificates(nodeFileSystem, [other]), text);
    expect(readFileSync(paths.keyFile, "utf8")).toBe("the key");
    await writeCertificates(nodeFileSystem, [other], { force: true });
    expect(filesIn(directory)).toEqual({ "new/deep/n1.crt": "another", "new/deep/n1.key": "its key" });
  });

  test.each([1, 2, 3, 4])("are written all or not at all: when rename %i fails, nothing is left", async (at) => {
    const directory = await temporaryDirectory();
    const pairs = ["n1", "n2"].map((name) => ({ ...PAIR, ...pairPaths(directory, name) }));
    await expect(writeCertificates(failingAt(at), pairs)).rejects.toThrow("as the test wants it");
    expect(filesIn(directory)).toEqual({});
    await writeCertificates(nodeFileSystem, pairs);
    expect(Object.keys(filesIn(directory))).toEqual(["n1.crt", "n1.key", "n2.crt", "n2.key"]);
  });

  test("replace what an interrupted run has left", async () => {
    const directory = await temporaryDirectory();
    writeFileSync(join(directory, "n1.key.part"), "half");
    await writeCertificates(nodeFileSystem, [{ ...PAIR, ...pairPaths(directory, "n1") }]);
    expect(filesIn(directory)).toEqual({ "n1.crt": "the certificate", "n1.key": "the key" });
  });
});

test("an authority is read from the directory that it was written to", async () => {
  const directory = await temporaryDirectory();
  const { peerAuthority } = new DevFiles(directory);
  await failure("NOT_FOUND", readAuthority(join(directory, "peer-authority")), "cairn certs authority makes one");
  await writeCertificates(nodeFileSystem, [{ ...PAIR, ...peerAuthority }]);
  expect(await readAuthority(join(directory, "peer-authority"))).toEqual(PAIR);
});

describe("a description of a file", () => {
  test("has all its certificates, and says when they have expired", async () => {
    const directory = await temporaryDirectory();
    const file = join(directory, "chain.pem");
    const authority = await makeAuthority("Clients", { days: 100 });
    const old = await makeClientCertificate(
      authority,
      { name: "alice" },
      { days: 1, now: Date.now() - 3 * 86_400_000 },
    );
    writeFileSync(file, `comment\n${old.certificate}${authority.certificate}`);
    const [client, signer] = await describeCertificates(file);
    expect(client).toMatchObject({ subject: "CN=alice", issuer: "CN=Clients", usages: ["clientAuth"], daysLeft: -3 });
    expect(client).toMatchObject({ isAuthority: false, names: [], node: undefined });
    expect(signer).toMatchObject({ subject: "CN=Clients", isAuthority: true, daysLeft: 99 });
    expect(Date.parse(client!.notAfter) - Date.parse(client!.notBefore)).toBe(86_400_000 + 5 * 60_000);
  });

  test("is refused for a file that is not there, holds none, or a damaged one", async () => {
    const directory = await temporaryDirectory();
    const file = join(directory, "x.pem");
    await failure("NOT_FOUND", describeCertificates(file), "ENOENT");
    const { key, certificate } = await makeAuthority("Any", { days: 1 });
    writeFileSync(file, key);
    await failure("INVALID_ARGUMENT", describeCertificates(file), "holds no certificate");
    writeFileSync(file, certificate.slice(0, 300));
    await failure("INVALID_ARGUMENT", describeCertificates(file), "must hold whole certificates");
  });
});
