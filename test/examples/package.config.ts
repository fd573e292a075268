import { readFileSync } from "node:fs";
import { mergeConfig } from "vitest/config";
import { commandConfig } from "../support/command_config.js";

const { engines } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
const oldest = /^>=([\d.]+)$/.exec(engines.node)![1]!;

/** npm run package:check -- [--node 22,24]; by default the oldest supported Node, and the newest 20, 22 and 24. */
export default mergeConfig(
  commandConfig("examples", "package", { node: { kind: "versions", default: `${oldest},20,22,24` } }),
  // A line for each case. An installation takes as long as the registry does.
  { test: { reporters: ["verbose"], hookTimeout: 0 } },
);
