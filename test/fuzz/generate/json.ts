import type { Random } from "../../support/random.js";
import { anyText } from "./values.js";

const NUMBERS = [
  "0",
  "-0",
  "-1",
  "1e3",
  "1e400",
  "-1e400",
  "1.0",
  "0.1",
  "9007199254740991",
  "9007199254740993",
  "123456789012345678901234567890",
  "1e-400",
  "281474976710656",
  "281474976710657",
  "4294967296",
] as const;

const WORDS = [
  "null",
  "true",
  "false",
  '"a"',
  '""',
  '"\\ud800"',
  '"\\u0000"',
  '"__proto__"',
  "[]",
  "{}",
  '{"__proto__":1}',
  '{"a":1,"a":2}',
] as const;

/** The text of a JSON value, mostly small and valid. */
export function randomJson(random: Random, depth = 0): string {
  if (depth === 0 && random.oneIn(100)) return nested(random);
  switch (random.whole(0, depth > 5 ? 3 : 6)) {
    case 0:
      return random.pick(NUMBERS);
    case 1:
      return random.pick(WORDS);
    case 2:
      return String(random.whole(-5, 60));
    case 3:
      return JSON.stringify(anyText(random).toString("utf8"));
    case 4:
      return `[${list(random, () => randomJson(random, depth + 1))}]`;
    default:
      return `{${list(random, () => `${JSON.stringify(anyText(random).toString())}:${randomJson(random, depth + 1)}`)}}`;
  }
}

function list(random: Random, item: () => string): string {
  return Array.from({ length: random.whole(0, 4) }, item).join(random.pick([",", ", ", " ,\t"]));
}

/** A value in so many others that programs run out of stack. */
function nested(random: Random): string {
  const levels = random.pick([50, 99, 100, 101, 1_000, 20_000]);
  return random.oneIn(2)
    ? `${"[".repeat(levels)}${"]".repeat(levels)}`
    : `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`;
}
