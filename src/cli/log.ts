import { createRequire } from "node:module";
import type { Logger } from "../node/logger.js";
import { type LogLevel, logLevels } from "./options.js";

/** A logger to standard error, which loses nothing when the process ends. What it writes with is loaded when there is something to write. */
export function standardErrorLogger(level: LogLevel): Logger {
  let pinoLogger: Logger | undefined;
  const writer = () => {
    pinoLogger ??= loadPino(level);
    return pinoLogger;
  };
  const method = (name: Exclude<LogLevel, "silent">): Logger["warn"] =>
    logLevels.indexOf(name) > logLevels.indexOf(level) ? () => {} : (facts, message) => writer()[name](facts, message);
  return { error: method("error"), warn: method("warn"), info: method("info"), debug: method("debug") };
}

function loadPino(level: LogLevel): Logger {
  const { pino } = createRequire(import.meta.url)("pino") as typeof import("pino");
  return pino({ level, base: null }, pino.destination({ dest: 2, sync: true }));
}
