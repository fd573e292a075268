import { createRequire } from "node:module";
import type { Logger } from "../../system/logger.js";

/** Levels of the log on standard error: each level includes the ones before it. */
export const logLevels = ["silent", "error", "warn", "info", "debug"] as const;

export type LogLevel = (typeof logLevels)[number];

/** A logger whose writer can be loaded before the first line is written. */
export interface StandardErrorLogger extends Logger {
  load(): void;
}

/**
 * Returns a logger to standard error that loses nothing when the process ends. It loads its writer
 * for the first line, or at {@link StandardErrorLogger.load}: a long-running process should load it
 * before it runs out of descriptors. If the writer cannot be loaded, lines are written without it.
 */
export function standardErrorLogger(level: LogLevel): StandardErrorLogger {
  let pinoLogger: Logger | undefined;
  const writer = (): Logger => {
    try {
      pinoLogger ??= loadPino(level);
      return pinoLogger;
    } catch {
      return plainLogger;
    }
  };
  const method = (name: LoggedLevel): Logger["warn"] =>
    logLevels.indexOf(name) > logLevels.indexOf(level) ? () => {} : (facts, message) => writer()[name](facts, message);
  return {
    error: method("error"),
    warn: method("warn"),
    info: method("info"),
    debug: method("debug"),
    load: () => void writer(),
  };
}

type LoggedLevel = Exclude<LogLevel, "silent">;

function loadPino(level: LogLevel): Logger {
  const { pino } = createRequire(import.meta.url)("pino") as typeof import("pino");
  return pino({ level, base: null }, pino.destination({ dest: 2, sync: true }));
}

/** Writes lines in pino's format. */
const plainLogger: Logger = {
  error: plainMethod(50),
  warn: plainMethod(40),
  info: plainMethod(30),
  debug: plainMethod(20),
};

function plainMethod(level: number): Logger["warn"] {
  return (facts, message) => {
    const shown = Object.entries(facts).map(([name, value]) => [
      name,
      value instanceof Error ? shownError(value) : value,
    ]);
    const line = { level, time: Date.now(), ...Object.fromEntries(shown), msg: message };
    process.stderr.write(`${JSON.stringify(line)}\n`);
  };
}

function shownError({ name, message, stack }: Error): object {
  return { type: name, message, stack };
}
