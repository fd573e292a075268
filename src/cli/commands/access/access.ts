import { Command, Option } from "commander";
import { CairnError } from "../../../base/errors.js";
import type { Policy } from "../../../server/access/policy.js";
import type { KeySet, Rights } from "../../../server/access/rights.js";
import { printResult } from "../../options/operator.js";
import { nonEmpty } from "../../options/options.js";
import { table } from "../../output/table.js";

interface CheckOptions {
  readonly caller?: string;
  readonly tokenFile?: string;
  readonly certificate?: string;
  readonly key?: string;
  readonly peerCertificates?: true;
  readonly json?: true;
}

/** The rights of a caller, as they are printed. */
interface ShownRights {
  readonly name: string;
  readonly roles: readonly string[];
  /** Prefixes; a word for all keys, or none. */
  readonly reads: readonly string[];
  readonly writes: readonly string[];
}

/** Defines `cairn access`, which looks at access files. */
export function accessCommand(): Command {
  const access = new Command("access").description("Check the file that says who may do what at a node.");
  access
    .command("check")
    .description("Check an access file, and show what its callers may do: all of them, or one.")
    .argument("<file>", "the access file")
    .addOption(new Option("--caller <name>", "the caller with this name").argParser(nonEmpty))
    .addOption(new Option("--token-file <file>", "the caller with the token in this file").argParser(nonEmpty))
    .addOption(
      new Option(
        "--certificate <name>",
        "the caller with this name in its certificate: CN=alice, DNS:app.example",
      ).argParser(nonEmpty),
    )
    .addOption(new Option("--key <key>", "whether that caller may read and write this key").argParser(nonEmpty))
    .option("--peer-certificates", "check it for nodes with --tls-peer-ca, where no caller may have the role peer")
    .option("--json", "print JSON")
    .action((file: string, options: CheckOptions) => check(file, options));
  return access;
}

async function check(file: string, options: CheckOptions): Promise<void> {
  const { readAccessFile } = await import("../../../server/access/access_file.js");
  const policy = readAccessFile(file, options.peerCertificates ? "certificate" : undefined);
  const one = await callerIn(policy, options);
  if (one === undefined) {
    const callers = policy.callers.map(({ rights }) => shown(rights));
    const rows = callers.map(({ name, roles, reads, writes }) => [name, ...[roles, reads, writes].map(listed)]);
    const open = { health: policy.health, reflection: policy.reflection };
    const revoked = [...policy.revoked];
    const last = `health: ${open.health}, reflection: ${open.reflection}, revoked certificates: ${revoked.length}`;
    const text = `${table(["CALLER", "ROLES", "READS", "WRITES"], rows)}\n${last}`;
    await printResult(options, { ...open, callers, revoked }, text);
    return;
  }
  const rights = shown(one);
  const methods = await methodsFor(one, policy);
  const ofKey = options.key === undefined ? undefined : await keyFacts(one, options.key);
  const lines = [
    `${rights.name}: ${listed(rights.roles)}`,
    `reads: ${listed(rights.reads)}`,
    `writes: ${listed(rights.writes)}`,
    ...(ofKey === undefined
      ? []
      : [`key ${JSON.stringify(options.key)}: ${saying("read", ofKey.reads)}, ${saying("written", ofKey.writes)}`]),
    "methods, within those keys:",
    ...methods.map((method) => `  ${method}`),
  ];
  await printResult(options, { ...rights, ...(ofKey !== undefined && { key: ofKey }), methods }, lines.join("\n"));
}

/** Returns the caller that the options name; undefined when they name none. */
async function callerIn(
  policy: Policy,
  { caller, tokenFile, certificate, key }: CheckOptions,
): Promise<Rights | undefined> {
  const given = [caller, tokenFile, certificate].filter((each) => each !== undefined);
  if (given.length > 1) {
    throw new CairnError("INVALID_ARGUMENT", "give one of --caller, --token-file and --certificate");
  }
  if (given.length === 0) {
    if (key === undefined) return undefined;
    throw new CairnError("INVALID_ARGUMENT", "--key needs a caller: give --caller, --token-file or --certificate");
  }
  const found = caller !== undefined ? policy.named(caller) : await byCredentials(policy, tokenFile, certificate);
  if (found !== undefined) return found;
  throw new CairnError("NOT_FOUND", "the access file has no such caller: it would be refused with UNAUTHENTICATED");
}

async function byCredentials(
  policy: Policy,
  tokenFile: string | undefined,
  certificate: string | undefined,
): Promise<Rights | undefined> {
  if (certificate !== undefined) return policy.withCertificate({ commonName: undefined, names: [certificate] })[0];
  const { readFile } = await import("node:fs/promises");
  const text = await readFile(tokenFile ?? "", "utf8").catch((cause: unknown) => {
    throw new CairnError("INVALID_ARGUMENT", `token file ${tokenFile}: ${(cause as Error).message}`, { cause });
  });
  return policy.withToken(text.trim());
}

async function methodsFor(rights: Rights, policy: Policy): Promise<string[]> {
  const { methodRules } = await import("../../../server/access/method_rules.js");
  const { isAllowed, opennessOf } = await import("../../../server/access/judgement.js");
  return [...methodRules].flatMap(([path, rule]) =>
    opennessOf(rule, policy) === "open" || isAllowed(rule, rights) ? [path.slice(1)] : [],
  );
}

async function keyFacts({ keys }: Rights, key: string): Promise<{ key: string; reads: boolean; writes: boolean }> {
  const { holdsKey } = await import("../../../server/access/rights.js");
  const bytes = Buffer.from(key);
  return { key, reads: holdsKey(keys.reader, bytes), writes: holdsKey(keys.writer, bytes) };
}

function shown({ name, keys, isAdmin, isPeer }: Rights): ShownRights {
  if (isPeer) return { name, roles: ["peer"], reads: [], writes: [] };
  const reads = prefixesOf(keys.reader);
  const writes = prefixesOf(keys.writer);
  const roles = [
    ...(reads.length > 0 ? ["reader"] : []),
    ...(writes.length > 0 ? ["writer"] : []),
    ...(isAdmin ? ["admin"] : []),
  ];
  return { name, roles, reads, writes };
}

function prefixesOf(keys: KeySet): string[] {
  if (keys === "all") return ["all keys"];
  return [...new Set(keys.map(({ bytes }) => textOf(bytes)))];
}

/** Returns a prefix as text, or as hexadecimal digits when it is none. */
function textOf(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString("utf8");
  return Buffer.from(text).equals(bytes) ? JSON.stringify(text) : `hex ${Buffer.from(bytes).toString("hex")}`;
}

function listed(words: readonly string[]): string {
  return words.length === 0 ? "-" : words.join(", ");
}

function saying(done: string, may: boolean): string {
  return `it may ${may ? "" : "not "}be ${done}`;
}
