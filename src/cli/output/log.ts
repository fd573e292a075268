import { createRequire } from "node:module";
import type { LogFacts } from "../../system/log_fields.js";
import { limitRepeats, type RepeatLimitedLogger } from "../../system/log_repeats.js";
import type { Logger } from "../../system/logger.js";
import { prettyLine, shownFacts } from "./log_lines.js";

/** Levels of the log on standard error: each level includes the ones before it. */
export const logLevels = ["silent", "error", "warn", "info", "debug"] as const;

export type LogLevel = (typeof logLevels)[number];

/** Formats of the log: JSON in pino's format, or text for people. Both have one line an event. */
export const logFormats = ["json", "pretty"] as const;

export type LogFormat = (typeof logFormats)[number];

/** Settings of the log on standard error. */
export interface LogSettings {
  readonly level: LogLevel;
  /** Default: pretty on a terminal, else json. */
  readonly format?: LogFormat | undefined;
  /** The node that writes, for each line. */
  readonly node?: string | undefined;
}

/** A logger whose writer can be loaded before the first line is written. */
export interface StandardErrorLogger extends RepeatLimitedLogger {
  load(): void;
}

type LoggedLevel = keyof Logger;

/** The numbers that pino gives the levels. */
const LEVELS: Readonly<Record<LoggedLevel, number>> = { error: 50, warn: 40, info: 30, debug: 20 };

/**
 * Returns a logger to standard error that loses nothing when the process ends. It loads its writer
 * for the first line, or at {@link StandardErrorLogger.load}: a long-running process should load it
 * before it runs out of descriptors. If the writer cannot be loaded, lines are written without it.
 * Repeats of an event are limited, and no line shows a credential.
 */
export function standardErrorLogger(settings: LogSettings): StandardErrorLogger {
  const { level, node } = settings;
  const format = settings.format ?? (process.stderr.isTTY ? "pretty" : "json");
  let pinoLogger: Logger | undefined;
  const jsonWriter = (): Logger => {
    try {
      pinoLogger ??= loadPino();
      return pinoLogger;
    } catch {
      return plainLogger;
    }
  };
  const writer = format === "pretty" ? () => prettyLogger : jsonWriter;
  const written = (name: LoggedLevel) => (facts: LogFacts, message: string) =>
    writer()[name](shownFacts(node === undefined ? facts : { node, ...facts }), message);
  const repeats = limitRepeats(loggerOf(written));
  process.once("exit", () => repeats.flush());
  const isLogged = (name: LoggedLevel) => logLevels.indexOf(name) <= logLevels.indexOf(level);
  return {
    ...loggerOf((name) => (isLogged(name) ? repeats[name] : () => {})),
    flush: () => repeats.flush(),
    load: () => void writer(),
  };
}

function loggerOf(method: (name: LoggedLevel) => Logger["warn"]): Logger {
  return { error: method("error"), warn: method("warn"), info: method("info"), debug: method("debug") };
}

function loadPino(): Logger {
  const { pino } = createRequire(import.meta.url)("pino") as typeof import("pino");
  // Errors come as plain objects already.
  const serializers = { err: (error: unknown) => error };
  return pino({ level: "debug", base: null, serializers }, pino.destination({ dest: 2, sync: true }));
}

/** Writes lines in pino's format. */
const plainLogger = loggerOf((name) => (facts, message) => {
  process.stderr.write(`${JSON.stringify({ level: LEVELS[name], time: Date.now(), ...facts, msg: message })}\n`);
});

const prettyLogger = loggerOf((name) => (facts, message) => {
  const line = { level: name, unixMs: Date.now(), facts, message };
  process.stderr.write(`${prettyLine(line, process.stderr.isTTY === true && !process.env.NO_COLOR)}\n`);
});
