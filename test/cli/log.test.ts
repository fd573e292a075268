import { expect, test } from "vitest";
import { startProcess } from "../support/processes/processes.js";

/** A process that logs with a logger of the command, and has spoilt what it writes with before. */
async function logged(spoil: string): Promise<Record<string, unknown>[]> {
  const program = `
    import { createRequire } from "node:module";
    import Module from "node:module";
    const { standardErrorLogger } = await import("./dist/src/cli/output/log.js");
    const logger = standardErrorLogger({ level: "warn" });
    ${spoil}
    logger.info({ index: 1 }, "not at this level");
    logger.warn({ node: "n1" }, "something");
    logger.error({ err: new RangeError("this") }, "the end");
  `;
  const child = startProcess(process.execPath, ["--input-type=module", "--eval", program]);
  await child.ended();
  return child.stderr
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

test.each([
  ["with its writer at hand", ""],
  ["whose writer was loaded early", "logger.load(); Module._load = () => { throw new Error('EMFILE'); };"],
  ["whose writer can no longer be loaded", "Module._load = () => { throw new Error('Cannot find module'); };"],
])("a logger, %s, writes one JSON object a line", async (_how, spoil) => {
  const lines = await logged(spoil);
  expect(lines).toMatchObject([
    { level: 40, node: "n1", msg: "something" },
    { level: 50, err: { type: "RangeError", message: "this", stack: expect.any(String) }, msg: "the end" },
  ]);
});
