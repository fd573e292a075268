import { type RunOptions, type RunResult, runSeed } from "./run.js";

type Job = Omit<RunOptions, "print"> & { readonly trace?: boolean };

// The process that runs seeds: it is given one at a time, and sends back what came of it.
process.on("message", async (job: Job) => {
  process.send!(await run(job));
});
process.on("disconnect", () => process.exit());

async function run({ trace, ...options }: Job): Promise<RunResult & { readonly cpuMs: number }> {
  const print = trace ? (line: string) => void process.stdout.write(`${line}\n`) : undefined;
  const before = process.cpuUsage();
  const result = await runSeed({ ...options, print });
  const { user, system } = process.cpuUsage(before);
  return { ...result, cpuMs: (user + system) / 1000 };
}

// By hand, to profile it: node main.mjs SEED...
for (const seed of process.argv.slice(2)) {
  const { cpuMs, events, hash, failure } = await run({ seed: Number(seed), trace: process.env.TRACE !== undefined });
  if (failure !== undefined && process.env.SHOW)
    process.stdout.write(
      `${failure.text.slice(0, 1500)}\n${failure.lastLines.slice(-Number(process.env.SHOW)).join("\n")}\n`,
    );
  process.stdout.write(`${seed} ${cpuMs.toFixed(0)} ms ${events} events ${hash} ${failure?.invariant ?? "ok"}\n`);
}
