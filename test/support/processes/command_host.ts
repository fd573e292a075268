import { type ChildProcess, fork } from "node:child_process";
import { triesAll } from "../run/tries_all.js";
import { COMMAND, type CommandResult, inRepository, type ProcessOptions, runCommand } from "./processes.js";

let host: ChildProcess | undefined;
let last: Promise<unknown> = Promise.resolve();

/**
 * Runs a cairn command to its end as {@link runCommand} does, in a process that has run others: for what a command prints and its exit code
 * it takes a tenth of the CPU time. Use {@link runCommand} where the process itself matters: that it ends, its signals, its open files. In
 * `npm run test:all` both are the same.
 */
export async function askCommand(
  args: readonly string[],
  options: Pick<ProcessOptions, "env"> & { readonly input?: string | Uint8Array } = {},
): Promise<CommandResult> {
  if (triesAll) return runCommand(args, options);
  const answer = last.then(() => ask(args, options));
  last = answer.catch(() => {});
  return answer;
}

function ask(
  args: readonly string[],
  { env = {}, input = "" }: Pick<ProcessOptions, "env"> & { readonly input?: string | Uint8Array },
): Promise<CommandResult> {
  host ??= startHost();
  const child = host;
  return new Promise((resolve, reject) => {
    const onAnswer = (result: unknown) => {
      child.off("exit", onExit);
      resolve(result as CommandResult);
    };
    const onExit = (code: number | null, signal: string | null) => {
      child.off("message", onAnswer);
      reject(new Error(`the process that ran cairn ${args.join(" ")} ended with ${signal ?? code}`));
    };
    child.once("message", onAnswer);
    child.once("exit", onExit);
    child.send({ args, env, input: Buffer.from(input).toString("base64") });
  });
}

/** It ends with this process, whose end closes the channel between them. */
function startHost(): ChildProcess {
  const script = inRepository("test/support/processes/command_host.mjs");
  const child = fork(script, [COMMAND], { stdio: ["ignore", 2, 2, "ipc"] });
  child.once("exit", () => {
    host = undefined;
  });
  return child;
}
