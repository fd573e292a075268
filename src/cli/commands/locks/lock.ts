import type { Command } from "commander";
import { TIMER_MS_MAX } from "../../../base/arguments.js";
import { hasCode } from "../../../base/errors.js";
import { certainMs } from "../../../client/leases/timing.js";
import type { LockHandle } from "../../../client.js";
import { note } from "../../options/operator.js";
import { wholeNumber } from "../../options/options.js";
import { exitCodes } from "../../output/exit_codes.js";
import { print } from "../../output/output.js";
import { endStep } from "../../output/progress.js";
import { no, report } from "../../output/report.js";
import { untilInterrupted } from "../../output/signals.js";
import { withClient } from "../kv/common.js";
import { type QueueFlags, queueCommand, queueOptions, untilSignalOrLost } from "./common.js";
import { runGuarded } from "./guarded_command.js";

interface LockFlags extends QueueFlags {
  readonly killAfterMs?: number;
}

const HELP = `
Without a command, the lock is held until SIGINT or SIGTERM.

The environment of the command has CAIRN_LOCK_TOKEN, the fencing token, and CAIRN_LOCK_KEY, the key that shows that the lock is
held. When the lock is lost, the command gets SIGTERM, then SIGKILL, and the exit code is 1. Else it is that of the command, or
128 + n when signal n has ended it.

Examples:
  cairn lock nightly -- ./report.sh
  cairn lock migrate --wait-ms 0 -- npm run migrate`;

/** Defines `cairn lock`, which runs a command while it holds a lock. */
export function lockCommand(): Command {
  return queueCommand("lock", "Wait for a lock, run a command while it is held, and release it.")
    .argument("<name>", "the lock")
    .argument("[command...]", "the command and its arguments, behind --")
    .option(
      "--kill-after-ms <n>",
      "time between SIGTERM and SIGKILL when the lock is lost; default: a tenth of --ttl-ms, in which the lease may still last",
      wholeNumber(0, TIMER_MS_MAX),
    )
    .addHelpText("after", HELP)
    .action((name: string, command: readonly string[], flags: LockFlags) =>
      withClient(
        flags,
        async (client) => {
          let lock: LockHandle;
          try {
            lock = await untilInterrupted((signal) => client.lock(name, queueOptions(flags, signal)));
          } catch (error) {
            if (flags.waitMs !== undefined && hasCode(error, "TIMEOUT")) return no("TIMEOUT", error.text);
            throw error;
          }
          // The command writes to the same terminal.
          endStep();
          try {
            const [file, ...args] = command;
            return await (file === undefined ? hold(lock, flags) : run(lock, [file, ...args], flags));
          } finally {
            await lock[Symbol.asyncDispose]();
          }
        },
        "waiting for the lock",
      ),
    );
}

async function hold(lock: LockHandle, flags: LockFlags): Promise<number> {
  const { name, key, token } = lock;
  const ended = untilSignalOrLost(lock);
  await print(
    flags.json ? `${JSON.stringify({ event: "locked", name, key, token })}\n` : `${name}: locked, token ${token}\n`,
  );
  const end = await ended;
  return end instanceof Error ? lost(lock, flags, end) : exitCodes.ok;
}

async function run(lock: LockHandle, command: readonly [string, ...string[]], flags: LockFlags): Promise<number> {
  const { name, key, token } = lock;
  if (flags.json) note(flags, { event: "locked", name, key, token }, "");
  const { ttlMs, killAfterMs = ttlMs - certainMs(ttlMs) } = flags;
  const outcome = await runGuarded(lock, command, killAfterMs);
  if (outcome.type === "lost") return lost(lock, flags, outcome.error);
  if (flags.json) note(flags, { event: "ended", name, code: outcome.code }, "");
  return outcome.code;
}

function lost({ name }: LockHandle, flags: LockFlags, error: Error): number {
  note(flags, { event: "lost", name }, `cairn: the lock ${JSON.stringify(name)} is lost`);
  return report(error);
}
