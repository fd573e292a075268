import { Command, Option } from "commander";
import { limits } from "../../../base/limits.js";
import type { CairnClient, Expected, KeyValue, StoredValue } from "../../../client.js";
import { wholeNumber } from "../../options/options.js";
import { exitCodes } from "../../output/exit_codes.js";
import { print } from "../../output/output.js";
import { no } from "../../output/report.js";
import { type Common, common, inputBytes, jsonOf, valueFields, withClient } from "./common.js";
import { txnCommand } from "./txn.js";
import { watchCommand } from "./watch.js";

interface ReadFlags extends Common {
  readonly stale?: true;
}

interface PutFlags extends Common {
  readonly ifValue?: string;
  readonly ifVersion?: number;
  readonly ifAbsent?: true;
  readonly lease?: number;
}

interface RangeFlags extends ReadFlags {
  readonly after?: string;
  readonly limit?: number;
  readonly keysOnly?: true;
}

/** Defines `cairn kv`, which reads and writes keys. */
export function kvCommand(): Command {
  return new Command("kv")
    .description("Read and write keys. Keys and values are UTF-8; `get` prints a value's bytes as they are.")
    .addCommand(
      reading("get <key>", "Print the value of a key. Exit code 3 when there is no such key.").action(
        (key: string, flags: ReadFlags) => withClient(flags, (client) => get(client, key, flags)),
      ),
    )
    .addCommand(
      common("put <key> [value]", "Set a key; without a value, or with -, to what standard input holds.")
        .option("--if-value <value>", "only if this is its value")
        .option("--if-version <n>", "only if this is its version", wholeNumber(1, limits.indexMax))
        .option("--lease <id>", "attach the key to this lease: it is removed with it", wholeNumber(1, limits.indexMax))
        .addOption(
          new Option(
            "--if-absent",
            "only if it does not exist. Exit code 3 when the condition does not hold",
          ).conflicts(["ifValue", "ifVersion"]),
        )
        .action((key: string, value: string | undefined, flags: PutFlags) =>
          withClient(flags, (client) => put(client, key, value, flags), readsInput(value) ? false : undefined),
        ),
    )
    .addCommand(
      common("del <key>", "Remove a key. Exit code 3 when there was no such key.").action(
        (key: string, flags: Common) => withClient(flags, (client) => remove(client, key, flags)),
      ),
    )
    .addCommand(
      reading(
        "range [prefix]",
        "Print keys and values in the order of the keys' bytes, a line each, with a tab between.",
      )
        .option("--after <key>", "only keys above this one")
        .option("--limit <n>", "at most this many keys", wholeNumber(1, limits.countMax))
        .option("--keys-only", "omit the values")
        .action((prefix: string | undefined, flags: RangeFlags) =>
          withClient(flags, (client) => range(client, prefix ?? "", flags)),
        ),
    )
    .addCommand(txnCommand())
    .addCommand(watchCommand());
}

function reading(usage: string, description: string): Command {
  return common(usage, description).option("--stale", "read the state of any node, which may lag behind");
}

async function get(client: CairnClient, key: string, { stale, json }: ReadFlags): Promise<number> {
  const found = await client.get(key, { stale });
  if (found === undefined) return noKey(key);
  if (json) await print(`${JSON.stringify(jsonOf(found))}\n`);
  else {
    await print(found.bytes);
    // On a terminal, the next prompt starts on a new line; a pipe gets the value and nothing else.
    if (process.stdout.isTTY) await print("\n");
  }
  return exitCodes.ok;
}

async function put(client: CairnClient, key: string, given: string | undefined, flags: PutFlags): Promise<number> {
  const value = readsInput(given) ? await inputBytes("valueBytes") : given;
  const expected = expectation(flags);
  const lease = flags.lease === undefined ? undefined : { id: flags.lease };
  if (expected === undefined) return written(await client.put(key, value, { lease }), flags);
  const result = await client.compareAndSet(key, expected, value, { lease });
  if (result.swapped) return written(result.version, flags);
  const { current } = result;
  if (current === undefined) return noKey(key);
  const text = `key ${JSON.stringify(key)} has version ${current.version} and the value ${shown(current)}`;
  return no("FAILED_PRECONDITION", text, { version: current.version, ...valueFields(current.bytes) });
}

/** Returns whether the value comes from standard input, which a person may be typing on. */
function readsInput(given: string | undefined): given is undefined | "-" {
  return given === undefined || given === "-";
}

function expectation({ ifValue, ifVersion, ifAbsent }: PutFlags): Expected | undefined {
  if (ifAbsent) return { absent: true };
  if (ifVersion !== undefined) return { version: ifVersion };
  return ifValue === undefined ? undefined : { value: ifValue };
}

async function written(version: number, { json }: Common): Promise<number> {
  await print(json ? `${JSON.stringify({ version })}\n` : `version ${version}\n`);
  return exitCodes.ok;
}

async function remove(client: CairnClient, key: string, { json }: Common): Promise<number> {
  const deleted = await client.delete(key);
  if (json) await print(`${JSON.stringify({ deleted })}\n`);
  if (!deleted) return noKey(key);
  return exitCodes.ok;
}

async function range(client: CairnClient, prefix: string, flags: RangeFlags): Promise<number> {
  const { after, limit, stale, json, keysOnly } = flags;
  for await (const entry of client.range({ prefix, after, limit, stale })) {
    const line = json ? JSON.stringify(keysOnly ? { key: entry.key } : jsonOf(entry)) : textOf(entry, keysOnly);
    if (!(await print(`${line}\n`))) break;
  }
  return exitCodes.ok;
}

function textOf(entry: KeyValue, keysOnly = false): string {
  return keysOnly ? entry.key : `${entry.key}\t${entry.text()}`;
}

function noKey(key: string): number {
  return no("NOT_FOUND", `there is no key ${JSON.stringify(key)}`);
}

function shown(stored: StoredValue): string {
  const text = stored.text();
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}...` : text);
}
