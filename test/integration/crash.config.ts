import { anySeed, commandConfig } from "../support/command_config.js";

/** npm run crash -- [--kills 200] [--seed N] [--data DIR] [--wipe-state 8] */
export default commandConfig("integration", "crash", {
  kills: { kind: "whole", default: "200" },
  seed: { kind: "whole", default: anySeed() },
  data: { kind: "text", default: "" },
  "wipe-state": { kind: "whole", default: "0" },
});
