import { Command, Option } from "commander";
import { accessRoles } from "../../../server/access/rights.js";
import { note, printResult } from "../../options/operator.js";
import { nonEmpty } from "../../options/options.js";

interface NewTokenOptions {
  readonly name: string;
  readonly role: string;
  readonly prefix?: readonly string[];
  readonly json?: true;
}

/** Defines `cairn token`, which makes tokens for an access file. */
export function tokenCommand(): Command {
  const token = new Command("token").description("Make tokens for callers of an access file.");
  token
    .command("new")
    .description(
      "Print a new random token on standard output, once, and the line for the access file, which has only its hash, on standard error.",
    )
    .option("--name <name>", "name of the caller in the line", nonEmpty, "NAME")
    .addOption(new Option("--role <role>", "role of the caller in the line").choices(accessRoles).default("reader"))
    .option("--prefix <prefix...>", "key prefixes of the role in the line (default: all keys)")
    .option("--json", "print JSON: the token, its hash and the line")
    .action(async (options: NewTokenOptions) => {
      const { newToken, tokenHash } = await import("../../../server/access/tokens.js");
      const made = newToken();
      const hash = tokenHash(made);
      const { name, role, prefix: prefixes } = options;
      const caller = { name, tokens: [hash], grants: [{ role, ...(prefixes !== undefined && { prefixes }) }] };
      await printResult(options, { token: made, hash, caller }, made);
      if (options.json !== true) {
        note(options, {}, `The token is not shown again. The line for "callers" in the access file:\n${line(caller)}`);
      }
    });
  return token;
}

/** Returns an object as JSON on one line, as a person would write it. */
function line(value: object): string {
  return JSON.stringify(value, undefined, 1).replace(/\n\s*/g, " ").replace(/\[ /g, "[").replace(/ \]/g, "]");
}
