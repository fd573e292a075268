import type { LogFacts } from "./log_fields.js";

/**
 * Receives a node's log messages, one call an event; a pino logger fits. Facts hold names, numbers
 * and reasons, never a key, a value, a token or a private key.
 */
export interface Logger {
  debug(facts: LogFacts, message: string): void;
  info(facts: LogFacts, message: string): void;
  warn(facts: LogFacts, message: string): void;
  error(facts: LogFacts, message: string): void;
}

const nothing = () => {};

export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };
