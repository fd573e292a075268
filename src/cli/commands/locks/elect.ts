import type { Command } from "commander";
import { hasCode } from "../../../base/errors.js";
import type { CairnClient, ElectedLeader, LeaderHandle } from "../../../client.js";
import { exitCodes } from "../../output/exit_codes.js";
import { print } from "../../output/output.js";
import { no, report } from "../../output/report.js";
import { untilInterrupted, untilSignal } from "../../output/signals.js";
import { type Common, valueFields, withClient } from "../kv/common.js";
import { type QueueFlags, queueCommand, queueOptions, staysAlive, untilSignalOrLost } from "./common.js";

interface ElectFlags extends QueueFlags {
  readonly observe?: true;
}

/** Defines `cairn elect`, which takes part in an election, or watches one. */
export function electCommand(): Command {
  return queueCommand("elect", "Take part in an election, and lead until SIGINT or SIGTERM, or until it is lost.")
    .argument("<name>", "the election")
    .argument("[value]", "what observers see of this candidate")
    .option("--observe", "take no part, and print the leader whenever it changes")
    .addHelpText(
      "after",
      "\nThe exit code is 1 when the leadership is lost.\n\nExample: cairn elect scheduler 10.0.0.7:8080",
    )
    .action((name: string, value: string | undefined, flags: ElectFlags, command: Command) => {
      if (flags.observe) return withClient(flags, (client) => observe(client, name, flags), false);
      if (value === undefined) command.error("error: missing required argument 'value'");
      return withClient(flags, (client) => elect(client, name, value!, flags), "waiting to be elected");
    });
}

async function elect(client: CairnClient, name: string, value: string, flags: ElectFlags): Promise<number> {
  let leader: LeaderHandle;
  try {
    leader = await untilInterrupted((signal) => client.elect(name, value, queueOptions(flags, signal)));
  } catch (error) {
    if (flags.waitMs !== undefined && hasCode(error, "TIMEOUT")) return no("TIMEOUT", error.text);
    throw error;
  }
  try {
    const { key, token } = leader;
    const text = `${name}: elected, token ${token}`;
    const ended = untilSignalOrLost(leader);
    await print(`${flags.json ? JSON.stringify({ event: "elected", name, key, token, value }) : text}\n`);
    const end = await ended;
    return end instanceof Error ? report(end) : exitCodes.ok;
  } finally {
    await leader[Symbol.asyncDispose]();
  }
}

async function observe(client: CairnClient, name: string, flags: Common): Promise<number> {
  const ended = new AbortController();
  void untilSignal().then(() => ended.abort());
  try {
    await staysAlive(printLeaders(client, name, ended.signal, flags));
  } catch (error) {
    if (!ended.signal.aborted) throw error;
  }
  return exitCodes.ok;
}

async function printLeaders(client: CairnClient, name: string, signal: AbortSignal, { json }: Common): Promise<void> {
  for await (const leader of client.observe(name, { signal })) {
    const line = json ? JSON.stringify({ event: "leader", name, ...fieldsOf(leader) }) : textOf(leader);
    if (!(await print(`${line}\n`))) return;
  }
}

function fieldsOf(leader: ElectedLeader | undefined): object {
  if (leader === undefined) return { leader: null };
  const { key, token, value } = leader;
  return { leader: { key, token, ...valueFields(value.bytes) } };
}

function textOf(leader: ElectedLeader | undefined): string {
  return leader === undefined ? "nobody leads" : `${leader.token}\t${leader.value.text()}`;
}
