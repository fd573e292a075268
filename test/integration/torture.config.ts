import { anySeed, commandConfig } from "./command_config.js";

/** npm run torture -- [--minutes 15] [--nodes 5] [--seed N] [--history FILE] */
export default commandConfig("torture", {
  minutes: { kind: "number", default: "15" },
  nodes: { kind: "number", default: "5" },
  seed: { kind: "number", default: anySeed() },
  history: { kind: "text", default: "" },
});
