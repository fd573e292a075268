import { pino } from "pino";
import type { Logger } from "../node/logger.js";

/** A logger to standard error, which loses nothing when the process ends. */
export function standardErrorLogger(level: string): Logger {
  return pino({ level, base: null }, pino.destination({ dest: 2, sync: true }));
}
