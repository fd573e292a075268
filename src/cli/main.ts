#!/usr/bin/env node
/** The `cairn` command: parses the command line, runs one command and reports its failure. */

import { Command } from "commander";
import { version } from "../base/version.js";
import { accessCommand } from "./commands/access/access.js";
import { tokenCommand } from "./commands/access/token.js";
import { benchCommand } from "./commands/bench/bench.js";
import { certsCommand } from "./commands/certs/certs.js";
import { CLUSTER_HINT, clusterCommand } from "./commands/cluster.js";
import { completionCommand } from "./commands/completion/completion.js";
import { doctorCommand } from "./commands/doctor/doctor.js";
import { gatewayCommand } from "./commands/gateway.js";
import { kvCommand } from "./commands/kv/kv.js";
import { leaderCommand } from "./commands/leader.js";
import { electCommand } from "./commands/locks/elect.js";
import { leaseCommand } from "./commands/locks/lease.js";
import { lockCommand } from "./commands/locks/lock.js";
import { memberCommand } from "./commands/member.js";
import { snapshotCommand } from "./commands/snapshot/snapshot.js";
import { startCommand } from "./commands/start.js";
import { statusCommand } from "./commands/status.js";
import { verifyCommand } from "./commands/verify.js";
import { walCommand } from "./commands/wal/wal.js";
import { exitCodes } from "./output/exit_codes.js";
import { ignoreBrokenStreams } from "./output/output.js";
import { report, reportAsAsked, reportsJson, UsageError } from "./output/report.js";

reportAsAsked(process.argv.slice(2));
const program = new Command("cairn")
  .description("Strongly consistent, replicated key-value store whose log compacts itself.")
  .version(version)
  .addHelpText(
    "afterAll",
    `
Exit codes:
  ${exitCodes.ok}   done, or stopped by SIGINT or SIGTERM
  ${exitCodes.failed}   the command failed; standard error says why
  ${exitCodes.usage}   the command line is wrong
  ${exitCodes.no}   the answer is no: there is no such key, or it is not as expected; states differ; a file is damaged; there is a problem
  ${exitCodes.fatal}  a broken invariant, or a disk that can no longer be trusted: the process stopped itself
  ${exitCodes.interrupted} SIGINT has ended the command before it was done`,
  )
  .addCommand(startCommand())
  .addCommand(clusterCommand())
  .addCommand(kvCommand())
  .addCommand(leaseCommand())
  .addCommand(lockCommand())
  .addCommand(electCommand())
  .addCommand(gatewayCommand())
  .addCommand(statusCommand())
  .addCommand(memberCommand())
  .addCommand(leaderCommand())
  .addCommand(snapshotCommand())
  .addCommand(verifyCommand())
  .addCommand(certsCommand())
  .addCommand(accessCommand())
  .addCommand(tokenCommand())
  .addCommand(walCommand())
  .addCommand(doctorCommand())
  .addCommand(benchCommand())
  .addCommand(completionCommand());
for (const command of withSubcommands(program)) {
  command.exitOverride((error) => {
    throw new UsageError(error, fullName(command));
  });
  command.showHelpAfterError(command.name() === "cluster" ? CLUSTER_HINT : "(see --help)");
  // With --json, an error is one line of JSON and nothing else.
  if (reportsJson()) command.configureOutput({ outputError: () => {}, writeErr: () => {} });
}

ignoreBrokenStreams();
// grpc-js would print problems that the errors already report.
process.env.GRPC_VERBOSITY ??= "NONE";

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
  // Connections that a failed command has left open must not keep the process alive.
  if (!(error instanceof UsageError)) process.exit();
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}
