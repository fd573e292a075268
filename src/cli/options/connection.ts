import { readFileSync } from "node:fs";
import { type Command, Option } from "commander";
import { CairnError } from "../../base/errors.js";
import type { ConnectionOptions } from "../../client/security/connection.js";
import { nonEmpty } from "./options.js";

// Options of every command that connects to nodes: how it protects the connection, and who it is.

/** The options, as they are given. */
export interface ConnectionFlags {
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsServerName?: string;
  readonly tokenFile?: string;
  readonly insecure?: true;
}

const FLAGS = [
  ["tls-ca <file>", "authorities of the nodes' certificates, in PEM (with any --tls-*, the connection uses TLS)"],
  ["tls-cert <file>", "certificate of this client, in PEM"],
  ["tls-key <file>", "its private key, in PEM"],
  ["tls-server-name <name>", "name that the nodes' certificates must have (default: the host of the address)"],
  ["token-file <file>", "file with the token to send; CAIRN_TOKEN holds the token itself"],
] as const;

/** Title of these options in the help. */
const GROUP = "Options for secure connections (see docs/certificates.md):";

/** Longest age of the token that was read from a file, in milliseconds. */
const TOKEN_AGE_MS = 1_000;

/** Gives a command the options of {@link ConnectionFlags}. */
export function addConnectionOptions(command: Command): Command {
  for (const [usage, description] of FLAGS) {
    const option = new Option(`--${usage}`, description).argParser(nonEmpty).helpGroup(GROUP);
    command.addOption(option.env(`CAIRN_${option.name().toUpperCase().replaceAll("-", "_")}`));
  }
  const insecure = new Option("--insecure", "send the token to other machines without encryption, too");
  return command.addOption(insecure.helpGroup(GROUP));
}

/** Returns one of the options that is given on the command line, if any. */
export function givenConnectionFlag(command: Command): string | undefined {
  const given = command.options.filter((option) => option.helpGroupHeading === GROUP);
  return given.find((option) => command.getOptionValueSource(option.attributeName()) === "cli")?.flags;
}

/**
 * Returns the settings of a client's connections.
 * @throws CairnError INVALID_ARGUMENT when the token's file cannot be read
 */
export function connectionFrom(flags: ConnectionFlags): ConnectionOptions {
  const { tlsCa, tlsCert, tlsKey, tlsServerName, tokenFile, insecure } = flags;
  const hasTls = [tlsCa, tlsCert, tlsKey, tlsServerName].some((value) => value !== undefined);
  const tls = { ca: tlsCa, certificate: tlsCert, key: tlsKey, serverName: tlsServerName };
  const token = tokenFile === undefined ? process.env.CAIRN_TOKEN || undefined : tokenIn(tokenFile);
  return { tls: hasTls ? tls : undefined, token, insecure };
}

/** Returns a function that returns the token in a file as it is now, give or take a second. */
function tokenIn(file: string): () => string {
  let token = readToken(file);
  let readAt = performance.now();
  return () => {
    if (performance.now() - readAt < TOKEN_AGE_MS) return token;
    readAt = performance.now();
    try {
      token = readToken(file);
    } catch {
      // It is being replaced; the one of before may serve until then.
    }
    return token;
  };
}

function readToken(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim();
  } catch (error) {
    const problem = `the token's file cannot be read: ${(error as Error).message}`;
    throw new CairnError("INVALID_ARGUMENT", problem, { cause: error });
  }
  if (text !== "") return text;
  throw new CairnError("INVALID_ARGUMENT", `the token's file ${file} is empty`);
}
