#!/usr/bin/env node
import { Command, CommanderError } from "commander";
import { CairnError } from "../errors.js";
import { version } from "../version.js";
import { exitCodes } from "./exit_codes.js";
import { gatewayCommand } from "./gateway.js";
import { startCommand } from "./start.js";

const program = new Command("cairn")
  .description("Strongly consistent, replicated key-value store whose log compacts itself.")
  .version(version)
  .showHelpAfterError("(see --help)")
  .addHelpText(
    "after",
    `
Exit codes:
  ${exitCodes.ok}   done, or stopped by SIGINT or SIGTERM
  ${exitCodes.failed}   the command failed; standard error says why
  ${exitCodes.usage}   the command line is wrong
  ${exitCodes.fatal}  a broken invariant, or a disk that cannot be trusted any more: the process stopped itself`,
  )
  .addCommand(startCommand())
  .addCommand(gatewayCommand());
for (const command of [program, ...program.commands]) command.exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  const { message } = CairnError.from(error);
  process.stderr.write(`cairn: ${error instanceof CairnError || !(error instanceof Error) ? message : error.stack}\n`);
  return exitCodes.failed;
}
