import { InvalidArgumentError, Option } from "commander";
import { isAddress } from "../../base/addresses.js";
import { TIMER_MS_MAX } from "../../base/arguments.js";
import { isId } from "../../base/ids.js";
import { limits } from "../../base/limits.js";
import { type LogLevel, logFormats, logLevels } from "../output/log.js";

/** Parses a whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}`);
  };
}

/** Parses a whole number, or `off` or 0, which give false. */
export function wholeNumberOrOff(least: number, most: number): (text: string) => number | false {
  return orOff(wholeNumber(least, most), `expected off, or a whole number from ${least} to ${most}`);
}

/** Parses a number above 0, with or without decimals, or `off`. */
export const factorOrOff = orOff((text) => {
  const value = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && value > 0 && value <= 1_000_000) return value;
  throw new InvalidArgumentError("");
}, "expected off, or a number above 0 as 1 or 0.5");

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Parses a time such as 500ms, 30s, 15m, 1h or 1d to milliseconds, or `off`. */
export const durationOrOff = orOff((text) => {
  const [, digits, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(text) ?? [];
  const value = Number(digits) * UNIT_MS[unit as keyof typeof UNIT_MS];
  if (value >= 1 && value <= TIMER_MS_MAX) return value;
  throw new InvalidArgumentError("");
}, "expected off, or a time as 500ms, 30s, 15m, 1h or 1d, up to 24 days");

function orOff(parse: (text: string) => number, expected: string): (text: string) => number | false {
  return (text) => {
    if (text === "off" || text === "0") return false;
    try {
      return parse(text);
    } catch {
      throw new InvalidArgumentError(expected);
    }
  };
}

/** Parses a text that is not empty. */
export function nonEmpty(text: string): string {
  if (text !== "") return text;
  throw new InvalidArgumentError("must not be empty");
}

/** Parses the name of a node or a cluster. */
export function idText(text: string): string {
  if (isId(text)) return text;
  throw new InvalidArgumentError(`expected 1 to ${limits.idCharacters} characters of A-Z a-z 0-9 . _ -`);
}

/** Parses host:port as an address to listen on. */
export function listenAddress(text: string): string {
  const port = Number(/^.+:(\d{1,5})$/.exec(text)?.[1] ?? Number.NaN);
  if (port <= 65535) return text;
  throw new InvalidArgumentError("expected host:port with a port from 0 to 65535");
}

/** Parses host:port as an address to connect to. */
export function address(text: string): string {
  if (isAddress(text)) return text;
  throw new InvalidArgumentError(`${JSON.stringify(text)} must be host:port`);
}

/** Parses a list of addresses: host:port,host:port */
export function addressList(text: string): string[] {
  return text.split(",").map((part) => address(part.trim()));
}

/** Parses a list of host names: name,name */
export function nameList(text: string): string[] {
  return text.split(",").map((part) => nonEmpty(part.trim()));
}

/** Parses nodes with their addresses: n1=host:port,n2=host:port */
export function namedAddresses(text: string): ReadonlyMap<string, string> {
  const nodes = new Map<string, string>();
  for (const part of text.split(",")) {
    const [, name, where] = /^([^=]+)=(.+)$/.exec(part.trim()) ?? [];
    if (name === undefined || where === undefined || !isAddress(where)) {
      throw new InvalidArgumentError(`${JSON.stringify(part)} must be name=host:port`);
    }
    if (nodes.has(name)) throw new InvalidArgumentError(`${name} comes twice`);
    nodes.set(name, where);
  }
  return nodes;
}

/** Port of the first node that `cairn cluster` starts; the others follow. */
export const BASE_PORT = 7101;

/** Number of nodes that `cairn cluster` starts. */
export const CLUSTER_NODES = 3;

/** Addresses of the nodes that `cairn cluster` starts: the guess when nobody names others. */
export const DEFAULT_ENDPOINTS: readonly string[] = Array.from(
  { length: CLUSTER_NODES },
  (_, at) => `127.0.0.1:${BASE_PORT + at}`,
);

/** Returns the option with the addresses of the cluster that a command talks to. */
export function endpointsOption(): Option {
  return new Option("--endpoints <list>", "members of the cluster: host:port,host:port")
    .env("CAIRN_ENDPOINTS")
    .argParser(addressList)
    .default(DEFAULT_ENDPOINTS, `the nodes of cairn cluster: ${DEFAULT_ENDPOINTS.join(",")}`);
}

export function logLevelOption(preset: LogLevel): Option {
  return new Option("--log-level <level>", "what to log on standard error")
    .env("CAIRN_LOG_LEVEL")
    .choices(logLevels)
    .default(preset);
}

export function logFormatOption(): Option {
  return new Option(
    "--log-format <format>",
    "how to log it, a line an event (default: pretty on a terminal, else json)",
  )
    .env("CAIRN_LOG_FORMAT")
    .choices(logFormats);
}
