import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { CairnClient } from "../../../src/client/client.js";
import { ProcessCluster } from "../../support/processes/process_cluster.js";
import { startProcess } from "../../support/processes/processes.js";
import { runs, triesAll } from "../../support/run/tries_all.js";
import { Contender, LockAudit, type Plan } from "./support.js";

const IDS = ["n1", "n2", "n3"];
/** Long enough for keep-alives on a machine that gives these processes little time. */
const TTL = 10_000;

/** Bound of a test in which leases end, in milliseconds. */
const TEST_MS = 300_000;

let cluster: ProcessCluster;
let endpoints: string[];

beforeAll(async () => {
  const directory = await mkdtemp(join(tmpdir(), "cairn-locks-"));
  cluster = await ProcessCluster.start(directory, IDS, ["--tick-ms", "50"]);
  endpoints = IDS.map((id) => cluster.get(id).address);
  return async () => {
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  };
});

async function audited(name: string): Promise<LockAudit> {
  const audit = new LockAudit(endpoints, name);
  await audit.start();
  return audit;
}

function contend(plan: Plan): Contender {
  return new Contender(endpoints, plan);
}

async function restart(id: string): Promise<void> {
  await cluster.kill(id);
  await cluster.leader();
  await cluster.startFounder(id);
  await cluster.leader();
}

describe("contenders for a lock, as processes on three nodes", () => {
  test(
    "never hold it at the same time while leaders of the cluster and holders are killed",
    async () => {
      const name = "killed";
      const audit = await audited(name);
      const plan = { name, lock: { ttlMs: TTL }, holdMs: 20 };
      let contenders = [contend(plan), contend(plan)];
      await Promise.all(contenders.map((each) => each.says("done")));
      for (let round = 0; round < runs(1, 2); round++) {
        await restart((await cluster.leader()).id);
        const before = audit.tokens.length;
        await cluster.until("the lock changes hands again", async () => audit.tokens.length > before + 3 || undefined);
        // A holder dies with the lock in its hand.
        const holder = contenders[round]!;
        await holder.says("locked", holder.said.filter(({ event }) => event === "locked").length + 1);
        await holder.command.kill("SIGKILL");
        const killedAt = audit.tokens.length;
        contenders = contenders.map((each) => (each === holder ? contend(plan) : each));
        await cluster.until(
          "the lock changes hands again",
          async () => audit.tokens.length > killedAt + 3 || undefined,
        );
      }
      for (const { command } of contenders) await command.kill("SIGKILL");
      await audit.end();
      expect(audit.problems).toEqual([]);
      expect(audit.tokens).toEqual(audit.tokens.toSorted((a, b) => a - b));
      expect(new Set(audit.tokens).size).toBe(audit.tokens.length);
    },
    TEST_MS,
  );
});

/** They take a minute in which little happens: `npm run locks` tries them, and `.ci/run` does. */
if (!triesAll)
  console.log("skipped: holders whose event loop is blocked for longer than their time; npm run locks tries them");

describe.runIf(triesAll)("a holder whose event loop is blocked for longer than the time to live", () => {
  test(
    "keeps the lock through its thread, and nobody else gets it",
    async () => {
      const audit = await audited("kept");
      const holder = contend({ name: "kept", lock: { ttlMs: TTL }, blockMs: 2 * TTL, rounds: 1 });
      const { token } = await holder.says("locked");
      const next = contend({ name: "kept", lock: { ttlMs: TTL }, rounds: 1 });
      expect(await holder.says("done")).toMatchObject({ token, isHeld: true, wasLost: false, isFenced: false });
      await next.says("done");
      await audit.end();
      expect([audit.problems, audit.tokens.length, audit.tokens[0]]).toEqual([[], 2, token]);
    },
    TEST_MS,
  );

  test(
    "loses it after maxBlockedMs, knows that at once when it wakes, and its fenced write is refused",
    async () => {
      const audit = await audited("blocked");
      const lock = { ttlMs: TTL, maxBlockedMs: 1_000 };
      const holder = contend({ name: "blocked", lock, blockMs: 4 * TTL, rounds: 1 });
      const { token } = await holder.says("locked");
      const next = contend({ name: "blocked", lock, rounds: 1 });
      const done = await next.says("done");
      // The holder is still blocked.
      expect(holder.said.map(({ event }) => event)).toEqual(["locked"]);
      expect(done).toMatchObject({ isHeld: true, isFenced: false });
      expect(done.token).toBeGreaterThan(token);
      expect(await holder.says("done")).toMatchObject({ token, isHeld: false, wasLost: true, isFenced: true });
      await audit.end();
      expect([audit.problems, audit.tokens]).toEqual([[], [token, done.token]]);
    },
    TEST_MS,
  );
});

/** At the same time: each waits for a time to live. */
test(
  "the lock of a process that is killed, stopped, or ends without a release passes on after its time to live, and not before",
  async () => {
    await Promise.all([passesOnFromKilled(), passesOnFromStopped(), passesOnFromEnded()]);
  },
  TEST_MS,
);

async function passesOnFromKilled(): Promise<void> {
  const holder = contend({ name: "dead", lock: { ttlMs: TTL }, holdMs: 60_000 });
  const { token } = await holder.says("locked");
  const next = contend({ name: "dead", lock: { ttlMs: TTL } });
  await cluster.until("it waits", async () => (await waiting("dead")) === 2 || undefined);
  const killedAt = performance.now();
  await holder.command.kill("SIGKILL");
  const locked = await next.says("locked");
  // The newest keep-alive was sent up to a third of the time before.
  expect(performance.now() - killedAt).toBeGreaterThan(TTL / 2);
  expect(locked.token).toBeGreaterThan(token);
}

/** The write of a process that continues as if nothing had been is refused. */
async function passesOnFromStopped(): Promise<void> {
  const holder = contend({ name: "stopped", lock: { ttlMs: TTL }, isSlow: true, rounds: 1 });
  const { token } = await holder.says("locked");
  process.kill(holder.command.pid, "SIGSTOP");
  const next = contend({ name: "stopped", lock: { ttlMs: TTL }, holdMs: 60_000 });
  expect((await next.says("locked")).token).toBeGreaterThan(token);
  process.kill(holder.command.pid, "SIGCONT");
  holder.command.stdin.write("go\n");
  expect(await holder.says("late")).toMatchObject({ token, isFenced: true, isHeld: false });
}

/** A client that never releases its lock does not keep its process alive. */
async function passesOnFromEnded(): Promise<void> {
  const client = new CairnClient({ endpoints });
  onTestFinished(() => client.close());
  const script = `
    const { CairnClient } = await import("./dist/src/client.js");
    const client = new CairnClient({ endpoints: ${JSON.stringify(endpoints)} });
    console.log((await client.lock("left", { ttlMs: ${TTL} })).token);
  `;
  const left = startProcess(process.execPath, ["--input-type=module", "-e", script]);
  expect(await left.exited).toMatchObject({ code: 0 });
  const lock = await client.lock("left", { ttlMs: TTL });
  expect(lock.token).toBeGreaterThan(Number(left.stdout));
  await lock.release();
}

/** Number of keys of a lock: its holder, and those who wait. */
async function waiting(name: string): Promise<number> {
  return (await cluster.readAll(`_lock/${name}/`)).size;
}
