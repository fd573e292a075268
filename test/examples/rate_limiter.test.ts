import { expect, test } from "vitest";
import { CairnClient } from "../../src/client/client.js";
import { serve } from "../support/nodes/served_node.js";
import { inRepository } from "../support/processes/processes.js";

interface Limiter {
  take(): Promise<boolean>;
}

/** The example, which is JavaScript. */
const { RateLimiter } = (await import(inRepository("examples/rate-limiter/limiter.mjs"))) as {
  RateLimiter: new (client: CairnClient, options: object) => Limiter;
};

test("the rate limiter lets a fleet have exactly its limit in each window, and starts over with the next", async () => {
  const { server } = await serve({ lead: true });
  const clients = Array.from({ length: 4 }, () => new CairnClient({ endpoints: [server.address] }));
  let now = 1_000_000;
  const options = { name: "api", limit: 50, windowMs: 1_000, batch: 7, now: () => now };
  const fleet = clients.map((client) => new RateLimiter(client, options));
  const taken = async () => {
    const answers = await Promise.all(fleet.flatMap((limiter) => Array.from({ length: 60 }, () => limiter.take())));
    return answers.filter((isTaken) => isTaken).length;
  };
  // A batch may be left over only where nobody asked for it: each has more callers than there are permits.
  expect(await taken()).toBe(50);
  expect(await taken()).toBe(0);
  now += 1_000;
  expect(await taken()).toBe(50);
  // A process whose clock is a window behind gets nothing of a window that is over.
  const late = new RateLimiter(clients[0]!, { ...options, now: () => now - 1_000 });
  expect(await late.take()).toBe(false);
  await Promise.all(clients.map((client) => client.close()));
});
