import { relative } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * Folders in the order in which they are run: what takes longest begins first, so that no core is idle at the end. Vitest goes by the size of
 * files when it has not run them before.
 */
const ORDER = [
  "sim",
  "integration",
  "examples",
  "cli",
  "readme.test.ts",
  "daemon",
  "gateway",
  "client",
  "machine",
  "interop",
  "support",
];

export class SlowFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const bySize = await super.sort(files);
    return [...bySize].sort((one, other) => this.#rank(one) - this.#rank(other));
  }

  #rank({ moduleId }: TestSpecification): number {
    const [folder = ""] = relative(`${this.ctx.config.root}/test`, moduleId).split("/");
    const place = ORDER.indexOf(folder);
    return place < 0 ? ORDER.length : place;
  }
}
