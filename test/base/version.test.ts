import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { version } from "../../src/base/version.js";
import { inRepository } from "../support/processes/processes.js";

test("the version is the one of the package", () => {
  const manifest = JSON.parse(readFileSync(inRepository("package.json"), "utf8")) as { readonly version: string };
  expect(version).toBe(manifest.version);
});
