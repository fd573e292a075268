import { commandConfig } from "../support/command_config.js";

/** npm run rejoin -- [--keys 600000] [--value-bytes 1024] */
export default commandConfig("integration", "rejoin", {
  keys: { kind: "count", default: "600000" },
  "value-bytes": { kind: "count", default: "1024" },
});
