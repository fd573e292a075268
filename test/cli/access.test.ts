import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { accessText, testCaller } from "../support/nodes/guarded.js";
import { runCommand } from "../support/processes/processes.js";

test("cairn token new prints a token on standard output, and a line of which an access file is made", async () => {
  const directory = await temporaryDirectory();
  const made = await runCommand(["token", "new", "--name", "app", "--role", "writer", "--prefix", "app/", "locks/"]);
  expect(made.stdout).toMatch(/^cairn_[A-Za-z0-9_-]{43}\n$/);
  expect(made.stderr).not.toContain(made.stdout.trim());
  const line = made.stderr.split("\n")[1]!;
  const file = join(directory, "access.json");
  writeFileSync(file, `{"callers": [${line}]}`);
  const token = join(directory, "app.token");
  writeFileSync(token, made.stdout);
  const check = ["access", "check", file, "--token-file", token, "--key"];
  const may = await runCommand([...check, "app/1"]);
  expect(may.stdout).toContain('app: reader, writer\nreads: "app/", "locks/"\nwrites: "app/", "locks/"\n');
  expect(may.stdout).toContain('key "app/1": it may be read, it may be written');
  expect(may.stdout).toContain("\n  cairn.v1.KeyValueService/Put\n");
  expect(may.stdout).not.toContain("AdminService/Compact");
  expect((await runCommand([...check, "other"])).stdout).toContain("it may not be read, it may not be written");
});

test("cairn access check shows all callers of a file, and names the place of a mistake", async () => {
  const file = join(await temporaryDirectory(), "access.json");
  writeFileSync(file, accessText([testCaller("ops", { role: "admin" }), testCaller("m", { role: "peer" })]));
  const shown = await runCommand(["access", "check", file, "--json"]);
  expect(JSON.parse(shown.stdout)).toEqual({
    health: "open",
    reflection: "known",
    revoked: [],
    callers: [
      { name: "ops", roles: ["admin"], reads: [], writes: [] },
      { name: "m", roles: ["peer"], reads: [], writes: [] },
    ],
  });
  const withCertificates = await runCommand(["access", "check", file, "--peer-certificates"]);
  expect([withCertificates.code, withCertificates.stderr]).toEqual([
    1,
    expect.stringContaining("callers[1].grants: members"),
  ]);
  const nobody = await runCommand(["access", "check", file, "--caller", "none"]);
  expect([nobody.code, nobody.stderr]).toEqual([
    1,
    expect.stringContaining("it would be refused with UNAUTHENTICATED"),
  ]);
  writeFileSync(file, '{"callers": [{"name": "a", "tokens": ["secret"], "grants": []}]}');
  const bad = await runCommand(["access", "check", file]);
  expect([bad.code, bad.stdout]).toEqual([1, ""]);
  expect(bad.stderr).toContain(`access file ${file}: callers[0].tokens[0] must be sha256: and 64 hexadecimal digits`);
  expect(bad.stderr).not.toContain("secret");
});
