import { anySeed, commandConfig } from "../support/command_config.js";

/** npm run upgrade -- [--from COMMIT] [--without-leases COMMIT] [--other-protocol COMMIT] [--seed N] */
export default commandConfig("integration", "upgrade", {
  // The last commit before TLS, access files and metrics.
  from: { kind: "text", default: "4af6716" },
  // Knows version 3 of the rules for commands, and no leases.
  "without-leases": { kind: "text", default: "068d7eb" },
  // The last commit with version 1 of the protocol between members.
  "other-protocol": { kind: "text", default: "3973356~1" },
  seed: { kind: "whole", default: anySeed() },
});
