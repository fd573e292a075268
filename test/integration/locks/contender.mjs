// A process that contends for a lock, as a test tells it: node contender.mjs <endpoints> <plan in JSON>
import { CairnClient, op } from "../../../dist/src/client.js";

const [endpoints, plan] = process.argv.slice(2);
const {
  name,
  lock: options,
  holdMs = 0,
  blockMs = 0,
  isSlow = false,
  rounds = Number.POSITIVE_INFINITY,
} = JSON.parse(plan);
const client = new CairnClient({ endpoints: endpoints.split(","), timeoutMs: 30_000 });
const say = (event, more = {}) => console.log(JSON.stringify({ event, pid: process.pid, ...more }));

/** Writes only if the lock is still held. */
async function fenced(lock, value) {
  const { succeeded } = await client
    .txn()
    .when(lock.fence)
    .then(op.put(`fenced/${name}`, value))
    .commit();
  return succeeded;
}

for (let round = 0; round < rounds; round++) {
  let lock;
  try {
    lock = await client.lock(name, options);
  } catch (error) {
    say("failed", { code: error.code, message: error.message });
    continue;
  }
  // Without a fence: everybody who believes that it holds the lock shows it.
  await client.put(`entered/${name}`, `${lock.token}`).catch(() => {});
  say("locked", { token: lock.token, key: lock.key });
  if (isSlow) {
    // Believes in its lock for ever, as a program without a look at the signal does.
    await new Promise((resolve) => process.stdin.once("data", resolve));
    say("late", { token: lock.token, isFenced: !(await fenced(lock, "late")), isHeld: lock.isHeld });
    continue;
  }
  if (blockMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blockMs);
  const { isHeld } = lock;
  const wasLost = lock.signal.aborted;
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, holdMs);
    lock.signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
  const isFenced = await fenced(lock, `${lock.token}`).then(
    (succeeded) => !succeeded,
    (error) => error.code,
  );
  say("done", { token: lock.token, isHeld, wasLost, isFenced });
  await lock.release().catch((error) => say("unreleased", { code: error.code }));
}
await client.close();
