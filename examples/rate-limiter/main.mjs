// Takes permits as fast as it can, and prints how many it got in each second; start it several times: together they get 100.
import { setTimeout as sleep } from "node:timers/promises";
import { CairnClient } from "cairn-raft/client";
import { RateLimiter } from "./limiter.mjs";

const client = new CairnClient({ endpoints: ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"] });
const limiter = new RateLimiter(client, { name: "demo", limit: 100, windowMs: 1_000 });
let taken = 0;
setInterval(() => {
  console.log(`${taken} in this second`);
  taken = 0;
}, 1_000);
for (;;) {
  if (await limiter.take()) taken++;
  else await sleep(10);
}
