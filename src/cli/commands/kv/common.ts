import { Command } from "commander";
import { TIMER_MS_MAX } from "../../../base/arguments.js";
import { limits } from "../../../base/limits.js";
import { overLimit } from "../../../base/telemetry/refusals.js";
import type { CairnClient, KeyValue } from "../../../client.js";
import { addConnectionOptions, type ConnectionFlags, connectionFrom } from "../../options/connection.js";
import { endpointsOption, wholeNumber } from "../../options/options.js";
import { asStep } from "../../output/progress.js";

// The common part of the commands that read and write keys.

/** Flags of every one of them. */
export interface Common extends ConnectionFlags {
  readonly endpoints: readonly string[];
  readonly timeoutMs: number;
  readonly json?: true;
}

/** Makes a command with the flags of every one of them. */
export function common(usage: string, description: string): Command {
  const [name, ...names] = usage.split(" ");
  const command = new Command(name).description(description);
  for (const each of names) command.argument(each);
  command
    .addOption(endpointsOption())
    .option("--timeout-ms <n>", "time limit of the command", wholeNumber(1, TIMER_MS_MAX), 10_000)
    .option("--json", "print JSON objects, a line each; values that are not UTF-8 as valueBase64");
  return addConnectionOptions(command);
}

/**
 * Runs a command with a client; its result is the exit code. `step` tells a person what takes long,
 * until something is printed.
 */
export async function withClient(
  { endpoints, timeoutMs, ...flags }: Common,
  act: (client: CairnClient) => Promise<number>,
  step: string | false = "waiting for the cluster",
): Promise<void> {
  const { CairnClient } = await import("../../../client/client.js");
  const client = new CairnClient({ endpoints, timeoutMs, ...connectionFrom(flags) });
  try {
    process.exitCode = await asStep(step, flags, () => act(client));
  } finally {
    await client.close();
  }
}

/**
 * Reads all of standard input.
 * @throws CairnError LIMIT_EXCEEDED as soon as it is larger than `limit`
 */
export async function inputBytes(limit: "valueBytes" | "entryBytes"): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of process.stdin as AsyncIterable<Buffer>) {
    pieces.push(piece);
    bytes += piece.byteLength;
    if (bytes > limits[limit]) {
      const text = `standard input holds more than ${limits[limit]} bytes`;
      throw overLimit("LIMIT_EXCEEDED", limit, `${text}, which is the limit ${limit}`);
    }
  }
  return Buffer.concat(pieces, bytes);
}

/** Returns a key as --json prints it. */
export function jsonOf({ key, bytes, version, createVersion }: KeyValue): object {
  return { key, ...valueFields(bytes), version, createVersion };
}

/** Returns the field that holds a value: as base64 when it is not UTF-8. */
export function valueFields(bytes: Uint8Array): object {
  const value = Buffer.from(bytes).toString("utf8");
  return Buffer.compare(Buffer.from(value), bytes) === 0
    ? { value }
    : { valueBase64: Buffer.from(bytes).toString("base64") };
}
