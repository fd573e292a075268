import { existsSync } from "node:fs";
import { test } from "vitest";
import { inRepository } from "../support/processes/processes.js";
import { testCases } from "./case_runner.js";

// Cases of the contract, which may lie beside the checkout.
const shared = inRepository("../shared/gateway/cases");

if (existsSync(shared)) testCases(shared);
else {
  console.log(`the shared cases are skipped: there is no ${shared}`);
  test.skip("the shared cases are skipped because they are not beside this checkout", () => {});
}
