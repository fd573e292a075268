// Runs a job of node-cron once a minute in the whole fleet: npm install node-cron, then start this program several times.
import { CairnClient } from "cairn-raft/client";
import cron from "node-cron";
import { FleetCoordinator } from "./coordinator.mjs";

const client = new CairnClient({ endpoints: ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"] });
cron.setRunCoordinator(new FleetCoordinator(client));
cron.schedule("* * * * *", () => console.log(`${new Date().toISOString()}: only here`), {
  name: "every-minute",
  distributed: true,
});
