import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { CairnMember } from "../../src/daemon/application/cairn_member.js";
import { inMemory } from "../../src/server/machine/own_machine.js";
import { failure, until } from "../support/conditions.js";
import { freePorts } from "../support/processes/process_cluster.js";
import { inRepository, type RunningCommand, startProcess } from "../support/processes/processes.js";

/** The machine of the counter example, as far as this test needs it: it is a member of the same cluster. */
class Counter {
  count = 0;
  answers: [string, { sequence: number; count: number }][] = [];

  apply(command: Uint8Array): Uint8Array {
    const { from, sequence } = JSON.parse(Buffer.from(command).toString());
    const found = this.answers.find(([sender]) => sender === from)?.[1];
    if (sequence <= (found?.sequence ?? 0)) return Buffer.from(`${found?.count}`);
    const answer = { sequence, count: ++this.count };
    this.answers = [...this.answers.filter(([sender]) => sender !== from), [from, answer]];
    return Buffer.from(`${answer.count}`);
  }

  serialize(): Uint8Array {
    return Buffer.from(JSON.stringify({ count: this.count, answers: this.answers }));
  }

  restore(bytes: Uint8Array): void {
    Object.assign(this, JSON.parse(Buffer.from(bytes).toString()));
  }
}

const command = (sequence: number) => Buffer.from(JSON.stringify({ from: "test", sequence }));

test("a proposal whose leader's process is killed has an unknown outcome, unless its command is idempotent", async () => {
  const directory = await mkdtemp(join(tmpdir(), "cairn-unknown-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const ports = await freePorts(4);
  const cluster = Object.fromEntries(ports.map((port, at) => [`n${at + 1}`, `127.0.0.1:${port}`]));
  const list = Object.entries(cluster).map(([id, address]) => `${id}=${address}`);
  const others = new Map<string, RunningCommand>();
  const start = (id: string) => {
    // One request at the beginning, and then nothing for as long as this takes.
    const args = ["--id", id, "--cluster", list.join(","), "--data", directory, "--every-ms", "3600000"];
    others.set(id, startProcess(process.execPath, [inRepository("examples/counter/main.mjs"), ...args]));
  };
  for (const id of ["n1", "n2", "n3"]) start(id);
  const machine = inMemory(() => new Counter());
  const member = await CairnMember.start({ id: "n4", directory: join(directory, "n4"), cluster, machine });
  onTestFinished(() => member.stop());
  for (const other of others.values()) await other.waitFor(/^count/m);
  const count = () => member.read((counter) => counter.count, { timeoutMs: 60_000 });

  /** Proposes to a leader that is killed while it has the command. Returns the leader, and what becomes of the proposal. */
  async function proposeToDying(sequence: number, isIdempotent: boolean) {
    if (member.leader.isSelf) await member.node.transferLeadership();
    await until(() => others.has(member.leader.leader ?? ""), "another process leads");
    const id = member.leader.leader!;
    const leader = others.get(id)!;
    // The connection to it is there.
    await count();
    // It stands still first, so that no answer can come.
    process.kill(leader.pid, "SIGSTOP");
    const proposed = member.propose(command(sequence), { isIdempotent, timeoutMs: 60_000 });
    proposed.catch(() => {});
    await leader.kill("SIGKILL");
    return { id, proposed };
  }

  const before = await count();
  const { id, proposed } = await proposeToDying(1, false);
  const error = await failure("OUTCOME_UNKNOWN", proposed);
  expect(error.text).toContain("MachineService");
  // No log but the killed one's has it, if any has: it was not proposed again.
  expect(await count()).toBe(before);

  start(id);
  await others.get(id)!.waitFor(/^count/m);
  const restarted = await count();
  const second = await proposeToDying(2, true);
  const { result } = await second.proposed;
  expect(Number(Buffer.from(result))).toBe(restarted + 1);
  expect(await count()).toBe(restarted + 1);
});
