import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { parseAccess, readAccessFile } from "../../../src/server/access/access_file.js";
import { holdsKey, holdsSpan, keyPrefix } from "../../../src/server/access/rights.js";
import { newToken, tokenHash } from "../../../src/server/access/tokens.js";
import { failure } from "../../support/conditions.js";
import { temporaryDirectory } from "../../support/disk/temporary_directory.js";

const HASH = tokenHash("a");

function withCallers(...callers: unknown[]): string {
  return JSON.stringify({ callers });
}

function caller(change: object = {}): object {
  return { name: "alice", tokens: [HASH], grants: [{ role: "reader" }], ...change };
}

test("an access file names callers by token and certificate, with roles and prefixes", () => {
  const token = newToken();
  const policy = parseAccess(
    JSON.stringify({
      health: "known",
      reflection: "open",
      callers: [
        { name: "app", tokens: [tokenHash(token)], grants: [{ role: "writer", prefixes: ["app/", { hex: "00ff" }] }] },
        { name: "ops", certificates: ["CN=ops", "DNS:ops.example"], grants: [{ role: "admin" }, { role: "reader" }] },
        { name: "members", tokens: [HASH], grants: [{ role: "peer" }] },
      ],
    }),
  );
  expect([policy.health, policy.reflection]).toEqual(["known", "open"]);
  expect(policy.withToken(token)?.name).toBe("app");
  expect(policy.withToken(`${token}x`)).toBeUndefined();
  const { keys } = policy.named("app")!;
  expect(["app/1", "ap", "b"].map((key) => holdsKey(keys.writer, Buffer.from(key)))).toEqual([true, false, false]);
  expect(holdsKey(keys.reader, Buffer.from([0, 255, 7]))).toBe(true);
  const names = (commonName: string | undefined, ...found: string[]) =>
    policy.withCertificate({ commonName, names: found }).map(({ name }) => name);
  expect(names("ops", "DNS:other")).toEqual(["ops"]);
  expect(names(undefined, "DNS:ops.example")).toEqual(["ops"]);
  expect(names("DNS:ops.example", "CN=ops2")).toEqual([]);
  expect(policy.named("ops")).toMatchObject({ isAdmin: true, isPeer: false, keys: { reader: "all", writer: [] } });
  expect(policy.named("members")?.isPeer).toBe(true);
  const preset = parseAccess('{"callers": []}');
  expect([preset.health, preset.reflection]).toEqual(["open", "known"]);
});

test("a span of keys must lie within one prefix", () => {
  const keys = [keyPrefix(Buffer.from("a/")), keyPrefix(Buffer.from("a0")), keyPrefix(Buffer.from([0xff]))];
  const holds = (start: string | number[], end?: string | number[]) =>
    holdsSpan(keys, Buffer.from(start as string), end === undefined ? undefined : Buffer.from(end as string));
  expect(holds("a/", "a0")).toBe(true);
  expect(holds("a/1", "a/2")).toBe(true);
  // "a/" ends where "a0" begins, and a span over both is refused all the same.
  expect(holds("a/", "a00")).toBe(false);
  expect(holds("a/")).toBe(false);
  expect(holds("", "a0")).toBe(false);
  expect(holds("a", "a/9")).toBe(false);
  expect(holds([0xff, 1])).toBe(true);
  expect(holds([0xfe], [0xff, 2])).toBe(false);
});

test.each([
  ["{", "it is not JSON"],
  ["[]", "the file must be an object with health, reflection, callers"],
  ['{"caller": []}', 'unknown field "caller"; known are health, reflection, callers'],
  ['{"callers": {}}', "callers must be a list"],
  ['{"callers": [], "health": "closed"}', 'health must be "open" for everybody or "known"'],
  [withCallers(7), "callers[0] must be an object with name"],
  [withCallers(caller({ roles: [] })), 'callers[0] has an unknown field "roles"'],
  [withCallers(caller({ name: "a b" })), "callers[0].name must be 1 to 64 characters (callerNameCharacters)"],
  [withCallers(caller({ name: "!member" })), "callers[0].name must be"],
  [withCallers(caller(), caller({ tokens: [tokenHash("b")] })), "callers[1].name is the same as callers[0].name"],
  [withCallers(caller(), caller({ name: "bob" })), "callers[1].tokens[0] is the same as callers[0].tokens[0]"],
  [withCallers(caller({ tokens: ["cairn_secret"] })), "callers[0].tokens[0] must be sha256: and 64"],
  [withCallers(caller({ tokens: HASH })), "callers[0].tokens must be a list of texts"],
  [withCallers(caller({ tokens: [] })), "callers[0] has neither certificates nor tokens"],
  [withCallers(caller({ certificates: ["alice"] })), "callers[0].certificates[0] must be CN=name, DNS:name"],
  [withCallers(caller({ grants: [] })), "callers[0].grants must be a list such as"],
  [
    withCallers(caller({ grants: [{ role: "root" }] })),
    'grants[0].role must be reader, writer, admin, peer, not "root"',
  ],
  [withCallers(caller({ grants: [{ role: "reader", prefix: "a" }] })), 'grants[0] has an unknown field "prefix"'],
  [
    withCallers(caller({ grants: [{ role: "admin", prefixes: ["a"] }] })),
    "grants[0].prefixes: the role admin concerns",
  ],
  [
    withCallers(caller({ grants: [{ role: "reader", prefixes: [] }] })),
    "grants[0].prefixes must be a list of prefixes",
  ],
  [withCallers(caller({ grants: [{ role: "reader", prefixes: [""] }] })), "grants[0].prefixes[0] is empty"],
  [withCallers(caller({ grants: [{ role: "reader", prefixes: [{ hex: "0" }] }] })), "prefixes[0].hex must be pairs"],
  [withCallers(caller({ grants: [{ role: "reader", prefixes: ["x".repeat(1025)] }] })), "the limit keyBytes is 1024"],
  [
    withCallers(caller({ grants: [{ role: "reader", prefixes: Array.from({ length: 101 }, (_, at) => `p${at}`) }] })),
    "the limit accessPrefixes is 100",
  ],
  [withCallers(caller({ grants: [{ role: "peer" }, { role: "admin" }] })), "with the role peer must have no other"],
  [JSON.stringify({ callers: [], revoked: "a" }), "revoked must be a list of texts"],
  [JSON.stringify({ callers: [], revoked: ["AA:BB"] }), "revoked[0] must be the SHA-256 fingerprint of a certificate"],
  [
    JSON.stringify({ callers: [], revoked: ["ab".repeat(32), Array(32).fill("AB").join(":")] }),
    "revoked[1] is the same as revoked[0]",
  ],
])("an access file that is not valid is refused by its place: %.60s", async (text, problem) => {
  const error = await failure("INVALID_ARGUMENT", () => parseAccess(text));
  expect(error.text).toContain(problem);
  expect(error.text).not.toContain("cairn_secret");
});

test("no caller may have the role peer where members have certificates", async () => {
  const text = withCallers(caller({ grants: [{ role: "peer" }] }));
  expect(parseAccess(text, "token").named("alice")?.isPeer).toBe(true);
  await failure(
    "INVALID_ARGUMENT",
    () => parseAccess(text, "certificate"),
    "callers[0].grants: members prove themselves",
  );
});

test("an access file that is missing or too large is refused by its path", async () => {
  const directory = await temporaryDirectory();
  await failure("INVALID_ARGUMENT", () => readAccessFile(join(directory, "none.json")), "none.json: it cannot be read");
  const large = join(directory, "large.json");
  writeFileSync(large, " ".repeat(limits.accessFileBytes + 1));
  await failure(
    "INVALID_ARGUMENT",
    () => readAccessFile(large),
    "large.json: it has 4194305 bytes; the limit accessFileBytes",
  );
});
