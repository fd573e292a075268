import { mergeConfig } from "vitest/config";
import { commandConfig } from "../support/command_config.js";

/** npm run package:check -- [--node 20,22,24] */
export default mergeConfig(commandConfig("examples", "package", { node: { kind: "text", default: "20,22,24" } }), {
  // A line for each case. An installation takes as long as the registry does.
  test: { reporters: ["verbose"], hookTimeout: 0 },
});
