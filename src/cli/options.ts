import { InvalidArgumentError, Option } from "commander";

/** A whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}`);
  };
}

/** What a log on standard error holds: each level also what those before it hold. */
export const logLevels = ["silent", "error", "warn", "info", "debug"] as const;

export type LogLevel = (typeof logLevels)[number];

export function logLevelOption(preset: LogLevel): Option {
  return new Option("--log-level <level>", "what to log on standard error").choices(logLevels).default(preset);
}
