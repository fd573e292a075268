import { readFileSync } from "node:fs";
import { type Command, InvalidArgumentError, type Option } from "commander";

/**
 * Takes from a JSON file the options that neither the command line nor the environment sets. Keys
 * are the names of the flags, without the dashes. An error in the file is reported as an error of
 * the command line.
 */
export function applyConfigFile(command: Command, path: string): void {
  try {
    for (const [key, value] of Object.entries(readObject(path))) fillIn(command, key, value);
  } catch (error) {
    if (error instanceof InvalidArgumentError) command.error(`error: config file ${path}: ${error.message}`);
    throw error;
  }
}

function fillIn(command: Command, key: string, value: unknown): void {
  const known = command.options.filter((option) => option.name() !== "config");
  const option = known.find((each) => each.name() === key);
  if (option === undefined) {
    const names = known.map((each) => each.name()).sort();
    throw new InvalidArgumentError(`unknown key ${JSON.stringify(key)}; known are ${names.join(", ")}`);
  }
  const parsed = parseValue(option, value);
  const source = command.getOptionValueSource(option.attributeName());
  if (source !== undefined && source !== "default") return;
  command.setOptionValueWithSource(option.attributeName(), parsed, "config");
}

function readObject(path: string): object {
  let found: unknown;
  try {
    found = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const text = error instanceof SyntaxError ? "it is not JSON" : "it cannot be read";
    throw new InvalidArgumentError(`${text}: ${(error as Error).message}`);
  }
  if (typeof found === "object" && found !== null && !Array.isArray(found)) return found;
  throw new InvalidArgumentError("it is not a JSON object");
}

function parseValue(option: Option, value: unknown): unknown {
  try {
    if (option.required) {
      const text = textOf(value);
      return option.parseArg === undefined ? text : option.parseArg(text, undefined);
    }
    if (typeof value === "boolean") return value;
    throw new InvalidArgumentError("expected true or false");
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw new InvalidArgumentError(`${option.name()}: ${error.message}`);
    throw error;
  }
}

/** Returns a value in the form that it has on the command line. */
function textOf(value: unknown): string {
  if (typeof value === "string" || typeof value === "number") return String(value);
  if (Array.isArray(value)) return value.map(textOf).join(",");
  if (typeof value === "object" && value !== null) {
    const parts = Object.entries(value).map(([name, each]) => `${name}=${textOf(each)}`);
    return parts.join(",");
  }
  throw new InvalidArgumentError(`${JSON.stringify(value)} is neither a text nor a number`);
}
