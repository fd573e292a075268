import { CairnError } from "../../base/errors.js";
import type { LogFacts } from "../../system/log_fields.js";
import type { Logger } from "../../system/logger.js";

// Makes lines of log events. One event is one line, and no line shows a credential.

/** An event of the log, as {@link shownFacts} leaves it. */
export interface LogLine {
  readonly level: keyof Logger;
  readonly unixMs: number;
  readonly facts: LogFacts;
  readonly message: string;
}

/** Causes of an error that a line shows. */
const CAUSES = 5;

/**
 * Headers with credentials, tokens of `cairn token new`, keys in PEM. No text of Cairn has them.
 * That of a library or of an application may.
 */
const CREDENTIALS = [
  /\b(bearer|basic)\s+[\x21-\x7e]+/gi,
  /\bcairn_[\w-]{43}(?![\w-])/g,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
];

/**
 * Returns facts as a line may show them: errors as plain objects with known fields only, because a
 * library's error may carry the headers of a call; texts without credentials.
 */
export function shownFacts(facts: LogFacts): LogFacts {
  const shown = Object.entries(facts).flatMap(([field, value]: [string, unknown]) => {
    if (value === undefined) return [];
    return [[field, field === "err" ? shownError(value, CAUSES) : withoutCredentials(value)]];
  });
  return Object.fromEntries(shown) as LogFacts;
}

/** Returns an event as a line for people. With `isColored`, the level has a colour. */
export function prettyLine({ level, unixMs, facts, message }: LogLine, isColored: boolean): string {
  const { node, err, ...others } = facts;
  const name = level.toUpperCase().padEnd(5);
  const parts = [
    new Date(unixMs).toISOString(),
    isColored ? `${COLORS[level]}${name}\u001b[0m` : name,
    ...(node === undefined ? [] : [printable(String(node))]),
    printable(message),
    ...Object.entries(others).map(([field, value]) => `${field}=${shownValue(value)}`),
    ...(err === undefined ? [] : [`err=${shownValue(errorInOneLine(err))}`]),
  ];
  return parts.join(" ");
}

const COLORS: Readonly<Record<keyof Logger, string>> = {
  error: "\u001b[31m",
  warn: "\u001b[33m",
  info: "\u001b[32m",
  debug: "\u001b[90m",
};

function shownError(error: unknown, causes: number): object | string {
  if (!(error instanceof Error)) return withoutCredentials(String(error)) as string;
  const { name: type, message, stack, cause } = error;
  const code = error instanceof CairnError ? error.code : (error as NodeJS.ErrnoException).code;
  return {
    type,
    ...(code !== undefined && { code: String(code) }),
    message: withoutCredentials(message),
    stack: withoutCredentials(stack ?? ""),
    ...(cause !== undefined && causes > 0 && { cause: shownError(cause, causes - 1) }),
  };
}

function withoutCredentials(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutCredentials);
  if (typeof value !== "string") return value;
  return CREDENTIALS.reduce((text, pattern) => text.replace(pattern, "[credentials]"), value);
}

/** Returns an error of {@link shownFacts} with its stack, the innermost call first. */
function errorInOneLine(error: unknown): string {
  const { stack } = error as { readonly stack?: string };
  const text = stack === undefined || stack === "" ? String((error as Error).message ?? error) : stack;
  return text.replaceAll(/\s*\n\s*at /g, " < ");
}

function shownValue(value: unknown): string {
  if (Array.isArray(value)) return value.map(shownValue).join(",");
  const text = String(value);
  return /^[\w.:/@+=%-]+$/.test(text) ? text : quoted(text);
}

/** Writes control characters as escapes: a text of somebody else must not begin a line. */
function printable(text: string): string {
  return /[\p{Cc}\u2028\u2029]/u.test(text) ? quoted(text).slice(1, -1) : text;
}

function quoted(text: string): string {
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replaceAll(/[\p{Cc}\u2028\u2029]/gu, escaped);
}
