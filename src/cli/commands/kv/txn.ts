import { readFile } from "node:fs/promises";
import { type Command, InvalidArgumentError } from "commander";
import { CairnError } from "../../../base/errors.js";
import { limits } from "../../../base/limits.js";
import { type Condition, compare } from "../../../client/txn/conditions.js";
import { op, type StepResult, type TxnStep } from "../../../client/txn/steps.js";
import type { CairnClient } from "../../../client.js";
import { wholeNumber } from "../../options/options.js";
import { exitCodes } from "../../output/exit_codes.js";
import { print } from "../../output/output.js";
import { type Common, common, inputBytes, jsonOf, withClient } from "./common.js";

/** A transaction as a JSON document has it, and as the flags add to it. */
interface Document {
  readonly when?: readonly Condition[];
  readonly then?: readonly TxnStep[];
  readonly else?: readonly TxnStep[];
}

interface TxnFlags extends Common {
  readonly if?: readonly Condition[];
  readonly ifVersion?: readonly Condition[];
  readonly ifMissing?: readonly Condition[];
  readonly then?: readonly TxnStep[];
  readonly else?: readonly TxnStep[];
  readonly file?: string;
}

const EXAMPLES = `
Steps of --then and --else:
  put KEY VALUE            the value is the rest of the text
  get KEY
  del KEY
  range PREFIX [LIMIT]
  del-range PREFIX

Examples:
  cairn kv txn --if-missing lock --then 'put lock me' --else 'get lock'
  cairn kv txn --if 'stock=2' --if-version user=17 --then 'put stock 1' --then 'del user'
  cairn kv txn --file - <<'END'
  { "when": [{ "on": { "prefix": "job/" }, "property": "version", "relation": "<", "expected": 400 }],
    "then": [{ "type": "put", "key": "done", "value": "yes" }, { "type": "deleteRange", "keys": { "prefix": "job/" } }],
    "else": [{ "type": "range", "keys": { "prefix": "job/" }, "limit": 10 }] }
  END`;

/** Defines `cairn kv txn`, which compares and then changes or reads several keys at once. */
export function txnCommand(): Command {
  return common(
    "txn",
    "Carry out all --then steps at once if all conditions hold, else all --else steps: all or nothing. Exit code 3 when a condition did not hold.",
  )
    .option("--if <key=value>", "the key has this value; may be repeated", listOf(valueCondition))
    .option("--if-version <key=n>", "the key has this version; 0: it does not exist", listOf(versionCondition))
    .option("--if-missing <key>", "the key does not exist", listOf(missingCondition))
    .option("--then <step>", "a step for when all conditions hold; may be repeated", listOf(stepOf))
    .option("--else <step>", "a step for when a condition does not hold; may be repeated", listOf(stepOf))
    .option("--file <path>", "a JSON document with when, then and else, before what the flags add; - is standard input")
    .addHelpText("after", EXAMPLES)
    .action((flags: TxnFlags) =>
      withClient(flags, (client) => commit(client, flags), flags.file === "-" ? false : undefined),
    );
}

async function commit(client: CairnClient, flags: TxnFlags): Promise<number> {
  const document = flags.file === undefined ? {} : await documentIn(flags.file);
  const conditions = [flags.if, flags.ifVersion, flags.ifMissing].flatMap((list) => list ?? []);
  const then = [...(document.then ?? []), ...(flags.then ?? [])];
  const otherwise = [...(document.else ?? []), ...(flags.else ?? [])];
  const { succeeded, version, results } = await client
    .txn()
    .when(...(document.when ?? []), ...conditions)
    .then(...then)
    .else(...otherwise)
    .commit();
  if (flags.json) await print(`${JSON.stringify({ succeeded, version, results: results.map(resultJson) })}\n`);
  else {
    const steps = succeeded ? then : otherwise;
    const lines = results.flatMap((result, at) => linesOf(result, steps[at]!));
    await print(`${[`${succeeded ? "then" : "else"}, version ${version}`, ...lines].join("\n")}\n`);
  }
  return succeeded ? exitCodes.ok : exitCodes.no;
}

/** @throws CairnError INVALID_ARGUMENT when the file is no JSON document of a transaction */
async function documentIn(path: string): Promise<Document> {
  const text = (path === "-" ? await inputBytes("entryBytes") : await readFile(path)).toString("utf8");
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new CairnError("INVALID_ARGUMENT", `the document is not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof document !== "object" || document === null) throw wrongDocument("it is not an object");
  for (const [name, list] of Object.entries(document)) {
    if (!["when", "then", "else"].includes(name)) throw wrongDocument(`it has a field ${JSON.stringify(name)}`);
    if (!Array.isArray(list)) throw wrongDocument(`${name} is not a list`);
  }
  return document;
}

function wrongDocument(problem: string): CairnError {
  return new CairnError("INVALID_ARGUMENT", `the document may have lists when, then and else, but ${problem}`);
}

/** Returns a parser for a flag that may be repeated. */
function listOf<Item>(parse: (text: string) => Item): (text: string, before?: readonly Item[]) => readonly Item[] {
  return (text, before = []) => [...before, parse(text)];
}

function valueCondition(text: string): Condition {
  const [key, value] = cutAt(text, "=", "key=value");
  return compare(key).value("=", value);
}

function versionCondition(text: string): Condition {
  const [key, version] = cutAt(text, "=", "key=version");
  return compare(key).version("=", wholeNumber(0, limits.indexMax)(version));
}

function missingCondition(key: string): Condition {
  return compare(key).missing();
}

function stepOf(text: string): TxnStep {
  const [word, rest] = cutAt(text, " ", "a step such as 'get KEY'");
  switch (word) {
    case "put":
      return op.put(...cutAt(rest, " ", "put KEY VALUE"));
    case "get":
      return op.get(rest);
    case "del":
      return op.delete(rest);
    case "del-range":
      return op.deleteRange({ prefix: rest });
    case "range": {
      const [prefix, limit] = rest.includes(" ") ? cutAt(rest, " ", "range PREFIX LIMIT") : [rest];
      return op.range({ prefix }, { limit: limit === undefined ? limit : wholeNumber(1, limits.countMax)(limit) });
    }
    default:
      throw new InvalidArgumentError("expected put, get, del, range or del-range.");
  }
}

function cutAt(text: string, separator: string, expected: string): [string, string] {
  const at = text.indexOf(separator);
  if (at < 0) throw new InvalidArgumentError(`expected ${expected}.`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function linesOf(result: StepResult, step: TxnStep): string[] {
  switch (result.type) {
    case "put":
      return ["put"];
    case "delete":
      return [`deleted ${result.deleted ? 1 : 0}`];
    case "deleteRange":
      return [`deleted ${result.deleted}`];
    case "get":
      if (result.found !== undefined) return [`${result.found.key}\t${result.found.text()}`];
      return [`there is no key ${JSON.stringify("key" in step ? step.key : "")}`];
    case "range":
      return result.found.map((entry) => `${entry.key}\t${entry.text()}`);
    case "forgotten":
      return ["carried out, and what was read is forgotten: read it again"];
  }
}

function resultJson(result: StepResult): object {
  if (result.type === "get") return { type: "get", found: result.found === undefined ? null : jsonOf(result.found) };
  if (result.type === "range") return { ...result, found: result.found.map(jsonOf) };
  return result;
}
