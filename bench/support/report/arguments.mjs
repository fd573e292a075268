// Parsers of options of a command line.
import { InvalidArgumentError } from "commander";

export function list(text) {
  return text.split(",");
}

export function counts(text) {
  return list(text).map(count);
}

export function count(text) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError("must be a whole number above 0");
  return value;
}

export function positive(text) {
  const value = number(text);
  if (value === 0) throw new InvalidArgumentError("must be above 0");
  return value;
}

export function number(text) {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0) throw new InvalidArgumentError("must be a number");
  return value;
}
