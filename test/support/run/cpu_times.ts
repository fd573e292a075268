/**
 * Writes the CPU time of each test file to the file that CAIRN_CPU_TIMES names, a line of JSON each, in seconds: of its own process, and of the
 * processes that it has started and that have ended. On a machine that does much else, this says what a test costs; the clock does not.
 */
import { appendFileSync, readFileSync } from "node:fs";
import { beforeAll, expect } from "vitest";
import { inRepository } from "../processes/processes.js";

const target = process.env.CAIRN_CPU_TIMES;

/** Clock ticks of Linux in a second. */
const TICKS_PER_SECOND = 100;

interface CpuTime {
  readonly own: number;
  readonly children: number;
}

function cpuTime(): CpuTime {
  const stat = readFileSync("/proc/self/stat", "utf8");
  // Without the process's number and name, which may hold spaces; see proc(5).
  const fields = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
  const sum = (at: number) => (fields[at]! + fields[at + 1]!) / TICKS_PER_SECOND;
  return { own: sum(11), children: sum(13) };
}

if (target !== undefined) {
  // The file before this one in the same process ended with this.
  const state = globalThis as { cairnCpuTime?: CpuTime };
  const before = state.cairnCpuTime ?? { own: 0, children: 0 };
  // What the first beforeAll returns is called last, when the hooks of the file have ended its processes.
  beforeAll(() => () => {
    const now = cpuTime();
    state.cairnCpuTime = now;
    const file = expect.getState().testPath?.slice(inRepository("test").length + 1);
    const [own, children] = [now.own - before.own, now.children - before.children].map((time) =>
      Number(time.toFixed(2)),
    );
    appendFileSync(target, `${JSON.stringify({ file, own, children })}\n`);
  });
}
