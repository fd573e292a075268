import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
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

async function ask(
  args: readonly string[],
  { env = {}, input = "" }: Pick<ProcessOptions, "env"> & { readonly input?: string | Uint8Array },
): Promise<CommandResult> {
  // It ends with this process, whose end closes the channel between them.
  host ??= fork(inRepository("test/support/processes/command_host.mjs"), [COMMAND], { stdio: ["ignore", 2, 2, "ipc"] });
  const answer = once(host, "message");
  const ended = once(host, "exit").then(([code, signal]) => {
    throw new Error(`the process that ran cairn ${args.join(" ")} ended with ${signal ?? code}`);
  });
  host.send({ args, env, input: Buffer.from(input).toString("base64") });
  const [result] = (await Promise.race([answer, ended])) as [CommandResult];
  return result;
}
