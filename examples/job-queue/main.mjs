// A queue that runs each job once: a worker runs a job after the cluster has given it to that worker, and to nobody else.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { CairnMember, inMemory } from "cairn-raft";
import { decode, encode, everyMs, options, run } from "../member.mjs";

class JobQueue {
  /** By name: { state: "waiting" | "running" | "done" | "interrupted", worker, run }, in the order in which they came. */
  jobs = new Map();

  apply(command) {
    const { type, ...rest } = decode(command);
    return encode(this[type](rest) ?? null);
  }

  add({ name }) {
    if (!this.jobs.has(name)) this.jobs.set(name, { state: "waiting" });
  }

  /** Gives a worker its next job; the same one again until it is done. A job that an earlier run of the worker left is not run again. */
  claim({ worker, run }) {
    const running = [...this.jobs].filter(([, job]) => job.state === "running" && job.worker === worker);
    for (const [, job] of running) if (job.run !== run) job.state = "interrupted";
    const found =
      running.find(([, job]) => job.run === run) ?? [...this.jobs].find(([, job]) => job.state === "waiting");
    if (found === undefined) return undefined;
    const [name, job] = found;
    this.jobs.set(name, { ...job, state: "running", worker, run });
    return name;
  }

  finish({ name, run }) {
    const job = this.jobs.get(name);
    if (job.run === run) job.state = "done";
  }

  serialize() {
    return encode([...this.jobs]);
  }

  restore(bytes) {
    this.jobs = new Map(decode(bytes));
  }

  count(state) {
    return [...this.jobs.values()].filter((job) => job.state === state).length;
  }
}

const member = await CairnMember.start({ ...options, machine: inMemory(() => new JobQueue()) });
const worker = { worker: member.id, run: randomUUID() };

/** Every command may come twice: the queue takes the second for the first. */
async function ask(command) {
  const { result } = await member.propose(encode(command), { isIdempotent: true, timeoutMs: 60_000 });
  return decode(result);
}

await run(member, async () => {
  for (let at = 1; at <= 60; at++) await ask({ type: "add", name: `job-${at}` });
  for (;;) {
    const name = await ask({ type: "claim", ...worker });
    if (name !== null) {
      console.log(`run ${name}`);
      await ask({ type: "finish", name, run: worker.run });
    } else {
      const count = (state) => member.read((queue) => queue.count(state));
      console.log(`nothing to do: ${await count("done")} done, ${await count("interrupted")} interrupted`);
    }
    await sleep(everyMs);
  }
});
