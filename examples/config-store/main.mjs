// Prints the settings of a cluster, and each change: node examples/config-store/main.mjs [--endpoints 127.0.0.1:7101,...] [--prefix config/]
// Change one: npx cairn kv put config/color '"red"'
import { parseArgs } from "node:util";
import { CairnClient } from "cairn-raft/client";
import { ConfigStore } from "./config_store.mjs";

const { values } = parseArgs({
  options: {
    endpoints: { type: "string", default: "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103" },
    prefix: { type: "string", default: "config/" },
  },
});

const client = new CairnClient({ endpoints: values.endpoints.split(",") });
const config = await ConfigStore.open(client, { prefix: values.prefix });
for (const [name, value] of config.entries()) console.log(`${name} = ${JSON.stringify(value)}`);
console.log("ready");
config.on("change", (name, value) => {
  console.log(value === undefined ? `${name} removed` : `${name} = ${JSON.stringify(value)}`);
});
config.on("invalid", (name, error) => console.log(`${name} is not JSON: ${error.message}`));
config.on("end", (error) => {
  console.error(`no more updates: ${error.message}`);
  process.exitCode = 1;
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    await config.close();
    await client.close();
  });
}
