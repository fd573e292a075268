import type { CommanderError } from "commander";
import { CairnError, type CairnErrorCode, hasCode } from "../../base/errors.js";
import { exitCodes } from "./exit_codes.js";
import { endStep } from "./progress.js";

/** Advice to the user for each error code. The error's message is more specific where possible. */
const advice: Readonly<Record<CairnErrorCode, string>> = {
  INVALID_ARGUMENT: "Correct the argument that the message names.",
  LIMIT_EXCEEDED: "Stay within the limit that the message names.",
  WRONG_CLUSTER:
    "Check the addresses, which --endpoints or CAIRN_ENDPOINTS names: a node of another cluster answers there.",
  STALE_TERM: "Try again: another node leads now.",
  UNAUTHENTICATED:
    "Give the credentials that the nodes' access file names: --token-file or CAIRN_TOKEN, or a client certificate.",
  PERMISSION_DENIED: "Ask whoever keeps the nodes' access file for the role and the key prefix that the message names.",
  FAILED_PRECONDITION: "Correct the cause that the message names, and try again.",
  OUT_OF_RANGE: "Ask for an index that exists: the message names it.",
  NOT_FOUND: "Check the name that was given.",
  LEASE_NOT_FOUND: "Grant a new lease: this one has ended, or never was.",
  NOT_LEADER: "Try again in a moment. A cluster elects a leader when a majority of its voters run.",
  STOPPED: "Try again when the node runs, or ask another one.",
  UNREACHABLE: "Check that nodes run there, or name others with --endpoints or CAIRN_ENDPOINTS.",
  BUSY: "Try again in a moment.",
  CONFLICT: "Try again in a moment: other writers were quicker.",
  QUEUE_FULL: "Make fewer calls at a time.",
  SLOW_WATCHER: "Watch again from where it ended, and read faster.",
  DISK_FULL: "Free some space and start again.",
  OUTCOME_UNKNOWN: "Read before you write again: the write may take effect, once, even now.",
  SESSION_EXPIRED: "Try again under another client id, with the index that the message names.",
  TIMEOUT: "Try again. A cluster answers when a majority of its voters run.",
  CANCELLED: "Run the command again if you still want its result.",
  CORRUPT: "Do not use the file that the message names. docs/operations.md says what to do about a damaged disk.",
  DATA_DIRECTORY: "Start the node that this directory belongs to, or give another directory.",
  STORAGE_FAILED: "Check the disk, and start the node again.",
  UNIMPLEMENTED: "Use a version of Cairn that offers it.",
  INTERNAL: "This is a bug: report it, with this message.",
};

let isJson = false;

/** Reports errors as these arguments of the command ask for: as JSON with --json. */
export function reportAsAsked(args: readonly string[]): void {
  const end = args.indexOf("--");
  isJson = args.slice(0, end < 0 ? args.length : end).includes("--json");
}

/** Reports errors as JSON from now on, because the config file asks for it. */
export function reportAsJson(): void {
  isJson = true;
}

/** Tells whether errors are reported as JSON: one line with `code`, `message` and `advice`. */
export function reportsJson(): boolean {
  return isJson;
}

/** The command line could not be understood. `command` is the command that it was meant for. */
export class UsageError extends Error {
  constructor(
    override readonly cause: CommanderError,
    readonly command: string,
  ) {
    super(cause.message);
  }
}

/** Reports on standard error why a command has failed. Returns the exit code. */
export function report(error: unknown): number {
  if (error instanceof UsageError) return reportUsage(error);
  if (isJson) writeJson(jsonOf(error));
  else writeText(textOf(error));
  return exitCodes.failed;
}

/**
 * Reports that the answer is no: a script sees it in the exit code, a person in the text. `facts`
 * go into the JSON.
 */
export function no(code: CairnErrorCode, message: string, facts: object = {}): number {
  if (isJson) writeJson({ code, message, advice: advice[code], ...facts });
  else writeText(message);
  return exitCodes.no;
}

/** Reports an error that ends the process immediately. */
export function reportFatal(message: string, error: unknown): void {
  const { code } = CairnError.from(error);
  if (isJson) writeJson({ code, message: `${message}: ${String(error)}`, advice: advice[code] });
  else writeText(`${message}: ${String(error)}`);
}

/** Commander prints the text form itself. */
function reportUsage({ cause, command }: UsageError): number {
  if (cause.exitCode === 0) return exitCodes.ok;
  if (isJson) {
    const message = cause.code === "commander.help" ? "no command is given" : cause.message.replace(/^error: /, "");
    writeJson({ code: "INVALID_ARGUMENT", message, advice: `See ${command} --help.` });
  }
  return exitCodes.usage;
}

function jsonOf(error: unknown): object {
  if (error instanceof CairnError) {
    const { code, text: message, retryable, oldestIndex } = error;
    const said = isUnreachable(error) ? unreachableAdvice(error) : advice[code];
    return { code, message, advice: said, retryable, oldestIndex };
  }
  if (!(error instanceof Error)) return { code: "INTERNAL", message: String(error), advice: advice.INTERNAL };
  const { message, stack } = error;
  // For an error of the system, its own code is the most specific.
  if (isOfSystem(error))
    return { code: error.code, message, advice: "Correct the cause that the message names, and try again." };
  return { code: "INTERNAL", message, advice: advice.INTERNAL, ...(error.cause === undefined && { stack }) };
}

/**
 * Returns the message of an error that the system or Cairn reports. Any other error is a bug, so
 * its stack is returned.
 */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (hasCode(error, "DISK_FULL")) return `${error.message}. ${advice.DISK_FULL}`;
  if (isUnreachable(error)) return `${error.message}. ${unreachableAdvice(error)}`;
  const isReported = error instanceof CairnError || isOfSystem(error) || error.cause !== undefined;
  return isReported ? error.message : (error.stack ?? error.message);
}

/** Whether no node was reached, at once or until the time was over. */
function isUnreachable(error: Error): boolean {
  return hasCode(error, "UNREACHABLE") || (hasCode(error, "TIMEOUT") && hasCode(error.cause, "UNREACHABLE"));
}

function unreachableAdvice({ message }: Error): string {
  if (!/certificate|TLS/.test(message)) return advice.UNREACHABLE;
  return "Check --tls-ca, --tls-cert, --tls-key and --tls-server-name, or their variables CAIRN_TLS_CA and so on.";
}

function isOfSystem(error: Error): error is NodeJS.ErrnoException {
  return "code" in error;
}

function writeJson(object: object): void {
  endStep();
  process.stderr.write(`${JSON.stringify(object)}\n`);
}

function writeText(text: string): void {
  endStep();
  process.stderr.write(`cairn: ${text}\n`);
}
