import { anySeed, commandConfig } from "../support/command_config.js";

/** npm run torture -- [--minutes 15] [--nodes 5] [--seed N] [--history FILE] [--tls] */
export default commandConfig("integration", "torture", {
  minutes: { kind: "number", default: "15" },
  nodes: { kind: "number", default: "5" },
  seed: { kind: "number", default: anySeed() },
  history: { kind: "text", default: "" },
  tls: { kind: "flag", default: "false" },
});
