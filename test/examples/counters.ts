import { expect } from "vitest";
import type { RunningCommand } from "../support/processes/processes.js";
import { blocksOf } from "../support/repository/documents.js";
import { atPorts } from "./installed_project.js";
import type { RunningExample } from "./support.js";

// Checks of the two counters, whose members add one each: their answers, also when the leader is killed with SIGKILL. A count that is
// lost would be given a second time, and one that counts twice would leave a hole.

const IDS = ["n1", "n2", "n3"];

/** Checks the counter of examples/. Returns its highest count. */
export async function checkExample(example: RunningExample): Promise<number> {
  await example.waitForAfter(0, /: count/, 30);
  const leader = await example.leader();
  const lines = await example.kill(leader);
  // The killed one comes back, and counts on.
  for (const id of IDS) await example.waitForAfter(lines, new RegExp(`^${id}: count`), 10);
  const counts = example.matches(/: count (\d+)/).map(Number);
  expect(new Set(counts).size).toBe(counts.length);
  // Each of the three may have one more on its way to its line, and the one that was killed had one that was never printed.
  const highest = Math.max(...counts);
  expect(highest - counts.length).toBeLessThanOrEqual(3 + 1);
  return highest;
}

/** The counter of docs/embedding.md, at these ports, and faster than a reader would have it. */
export function pageCounter(port: number): string {
  const { text } = blocksOf("docs/embedding.md").find(({ language }) => language === "ts")!;
  return atPorts(port, text).replace("sleep(1_000)", "sleep(20)");
}

/** Checks the counter of docs/embedding.md; `start` starts a member. Its commands have no id: one of unknown outcome may count. */
export async function checkPageCounter(start: (id: string) => RunningCommand): Promise<void> {
  const all = IDS.map(start);
  const members = new Map(IDS.map((id, at) => [id, all[at]!]));
  const counted = (member: RunningCommand, times: number) =>
    member.until(`${times} counts`, () => (countsOf([member]).length >= times ? true : undefined));
  for (const member of all) await counted(member, 5);
  const leader = /leader (n\d) in term \d+\n(?!.*leader)/s.exec(members.get("n1")!.stdout)![1]!;
  await members.get(leader)!.kill("SIGKILL");
  const others = IDS.filter((id) => id !== leader).map((id) => members.get(id)!);
  for (const member of others) await counted(member, countsOf([member]).length + 10);
  const back = start(leader);
  members.set(leader, back);
  all.push(back);
  await counted(back, 5);
  for (const member of members.values()) expect(await member.kill("SIGTERM")).toEqual({ code: 0, signal: null });
  const counts = countsOf(all);
  expect(new Set(counts).size).toBe(counts.length);
  const unknown = all.flatMap(({ stdout }) => stdout.match(/may or may not count/g) ?? []).length;
  const missing = Math.max(...counts) - counts.length;
  expect(missing).toBeGreaterThanOrEqual(0);
  // The one that was killed had one more, whose answer it never printed.
  expect(missing).toBeLessThanOrEqual(unknown + 1);
}

function countsOf(members: readonly RunningCommand[]): number[] {
  return members.flatMap(({ stdout }) => [...stdout.matchAll(/^count (\d+)$/gm)].map(([, count]) => Number(count)));
}
