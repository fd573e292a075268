import { LosslessNumber } from "lossless-json";
import { type CounterLimit, counterProblem } from "../base/counters.js";
import { limits } from "../base/limits.js";
import { GatewayError, gatewayCodes } from "./errors.js";

/**
 * Reads the fields of a JSON object with their types. A missing or mistyped field is error 12, and
 * the text names the field.
 */
export class Fields {
  constructor(
    private readonly fields: Readonly<Record<string, unknown>>,
    /**
     * Name of the object in error texts, with its dot: `entries[0].`; empty for the body itself.
     */
    private readonly path = "",
  ) {}

  has(name: string): boolean {
    return this.fields[name] !== undefined;
  }

  /** Returns any JSON value, null included. */
  value(name: string): unknown {
    return this.has(name) ? this.fields[name] : this.#fail(name, "is missing");
  }

  string(name: string): string {
    const value = this.value(name);
    return typeof value === "string" ? value : this.#fail(name, "must be a string");
  }

  oneOf<Choice extends string>(name: string, choices: readonly Choice[]): Choice {
    const found = choices.find((choice) => choice === this.value(name));
    return found ?? this.#fail(name, `must be one of ${choices.join(", ")}`);
  }

  boolean(name: string): boolean {
    const value = this.value(name);
    return typeof value === "boolean" ? value : this.#fail(name, "must be true or false");
  }

  /** Returns a whole number from `least`, up to a limit if one is named. */
  count(name: string, least = 0, limit?: CounterLimit): number {
    const value = this.value(name);
    const isWhole = typeof value === "number" && Number.isSafeInteger(value) && value >= least;
    if (isWhole && (limit === undefined || counterProblem(value, limit) === undefined)) return value;
    const most = limit === undefined ? "" : ` to ${limits[limit]} (${limit})`;
    return this.#fail(name, `must be a whole number from ${least}${most}`);
  }

  /** Returns a whole number of any sign: the node checks its range. */
  integer(name: string): number {
    const value = this.value(name);
    if (typeof value === "number" && Number.isSafeInteger(value)) return value;
    return this.#fail(name, "must be a whole number");
  }

  /** Returns a name, which is a string or a number, as text. */
  name(name: string): string {
    const value = this.value(name);
    if (typeof value === "string" && value.isWellFormed()) return value;
    if (typeof value === "number" || value instanceof LosslessNumber) return String(value);
    return this.#fail(name, "must be a string of whole characters, or a number");
  }

  /** Returns a key, which is a string or a number, as bytes. */
  key(name: string): Buffer {
    const key = Buffer.from(this.name(name), "utf8");
    return key.byteLength > 0 ? key : this.#fail(name, "must not be empty");
  }

  object(name: string): Fields {
    const value = this.value(name);
    return isObject(value) ? new Fields(value, `${this.path}${name}.`) : this.#fail(name, "must be an object");
  }

  /** Returns an object as names and values. */
  entries(name: string): [string, unknown][] {
    const value = this.value(name);
    return isObject(value) ? Object.entries(value) : this.#fail(name, "must be an object");
  }

  strings(name: string): string[] {
    const value = this.value(name);
    const isList = Array.isArray(value) && value.every((item) => typeof item === "string");
    return isList ? value : this.#fail(name, "must be a list of strings");
  }

  objects(name: string): Fields[] {
    const value = this.value(name);
    if (!Array.isArray(value)) return this.#fail(name, "must be a list");
    return value.map((item, at) =>
      isObject(item)
        ? new Fields(item, `${this.path}${name}[${at}].`)
        : this.#fail(`${name}[${at}]`, "must be an object"),
    );
  }

  #fail(name: string, what: string): never {
    throw new GatewayError(gatewayCodes.malformedRequest, `field ${this.path}${name} ${what}`);
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof LosslessNumber);
}
