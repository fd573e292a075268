// Starts a cairn process of a build, asks it for one thing at a time, and reads its CPU time and memory.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const CLOCK_TICKS_PER_SECOND = 100;

/** Starts `cairn ARGS`. `dist`: the folder of a build. */
export function startCairn(dist, args) {
  const child = spawn(process.execPath, [join(dist, "cli", "main.js"), ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let msgId = 0;
  const line = async () => {
    const { done, value } = await lines.next();
    if (done) throw new Error(`cairn ${args[0]} has ended without a reply`);
    return value;
  };
  const ask = async (type, fields) => {
    child.stdin.write(`${JSON.stringify({ src: "c1", dest: "n1", body: { type, msg_id: ++msgId, ...fields } })}\n`);
    const { body } = JSON.parse(await line());
    if (body.type === "error") throw new Error(`${type}: error ${body.code}: ${body.text}`);
    return body;
  };
  const end = () => {
    const closed = new Promise((resolve) => child.once("close", resolve));
    child.stdin.end();
    return closed;
  };
  return { pid: child.pid, line, ask, end, kill: () => child.kill("SIGKILL") };
}

/** Returns the CPU time that a process has used, in milliseconds; NaN without /proc. */
export function cpuMs(pid) {
  try {
    // Everything behind the command's name, which may hold spaces.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
    return ((Number(fields[11]) + Number(fields[12])) * 1_000) / CLOCK_TICKS_PER_SECOND;
  } catch {
    return Number.NaN;
  }
}

/** Most physical memory that a process has ever had. */
export function peakMemory(pid) {
  try {
    const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return `${(Number(kilobytes) / 1024).toFixed(0)} MiB`;
  } catch {
    return "unknown (this system has no /proc)";
  }
}
