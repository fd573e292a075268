// Lets node-cron run each fire of a job on one process of a fleet: cron.setRunCoordinator(new FleetCoordinator(client)), and
// `distributed: true` with a `name` among the options of the job. Every process schedules the same jobs.
import { hostname } from "node:os";
import { compare, op } from "cairn-raft/client";

export class FleetCoordinator {
  #client;
  #rememberMs;

  /** `rememberMs`: how long a fire stays claimed. It must cover the differences of the processes' clocks. */
  constructor(client, { rememberMs = 3_600_000 } = {}) {
    this.#client = client;
    this.#rememberMs = rememberMs;
  }

  /** Whether this process runs the fire; `key` has the job's name and the time. An error means that it does not. */
  async shouldRun(key) {
    const claim = `node-cron/${key}`;
    // Most processes of a large fleet are late, and change nothing.
    if ((await this.#client.get(claim, { stale: true })) !== undefined) return false;
    // Nobody keeps the lease alive: the claim removes itself.
    const lease = await this.#client.leases.grant({ ttlMs: this.#rememberMs });
    const { succeeded } = await this.#client
      .txn()
      .when(compare(claim).missing())
      .then(op.put(claim, `${hostname()} ${process.pid}`, { lease }))
      .commit();
    if (!succeeded) await lease.revoke();
    return succeeded;
  }
}
