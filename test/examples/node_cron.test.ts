import { expect, onTestFinished, test } from "vitest";
import { CairnClient } from "../../src/client/client.js";
import { serve } from "../support/nodes/served_node.js";
import { inRepository } from "../support/processes/processes.js";

/** The part of node-cron's RunCoordinator that the example has. */
interface RunCoordinator {
  shouldRun(key: string, ttlMs: number): Promise<boolean>;
}

/** The example, which is JavaScript. */
const { FleetCoordinator } = (await import(inRepository("examples/node-cron/coordinator.mjs"))) as {
  FleetCoordinator: new (client: CairnClient, options?: object) => RunCoordinator;
};

test("the coordinator lets one process of a fleet run each fire of a job, and leaves one claim and one lease of it", async () => {
  const { server } = await serve({ lead: true });
  const clients = Array.from({ length: 5 }, () => new CairnClient({ endpoints: [server.address] }));
  onTestFinished(async () => void (await Promise.all(clients.map((client) => client.close()))));
  const fleet = clients.map((client) => new FleetCoordinator(client, { rememberMs: 60_000 }));
  for (const fire of ["report:1", "report:2", "other:2"]) {
    const answers = await Promise.all(fleet.map((each) => each.shouldRun(fire, 1_000)));
    expect(answers.filter((runs) => runs)).toHaveLength(1);
    // A process that is late.
    expect(await fleet[0]!.shouldRun(fire, 1_000)).toBe(false);
  }
  const leases = await clients[0]!.leases.list();
  expect(leases.map(({ keyCount, ttlMs }) => [keyCount, ttlMs])).toEqual(Array(3).fill([1, 60_000]));
});
