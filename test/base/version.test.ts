import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { version } from "../../src/base/version.js";
import { inRepository } from "../support/processes/processes.js";

test("the version that the code reports is that of package.json", () => {
  const manifest = JSON.parse(readFileSync(inRepository("package.json"), "utf8")) as { readonly version: string };
  expect(version).toBe(manifest.version);
});
