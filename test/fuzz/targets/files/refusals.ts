import { CairnError } from "../../../../src/base/errors.js";
import { expectThat, Finding } from "../../run/target.js";

/** @throws Finding unless the error says in words, and by a code of Cairn's, what is refused */
export function expectRefusalByName(error: unknown): void {
  if (error instanceof Finding) throw error;
  if (!(error instanceof CairnError)) {
    throw new Finding(`refused without a CairnError: ${(error as Error)?.stack ?? String(error)}`);
  }
  expectThat(error.code !== "INTERNAL" && error.text !== "", () => `refused as ${error.code}: ${error.stack}`);
}
