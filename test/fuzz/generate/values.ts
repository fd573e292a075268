import type { Random } from "../../support/random.js";

// Draws values that programs get wrong: at the edges of types and limits, and of no valid form.

const EDGES = [
  0n,
  1n,
  2n,
  127n,
  128n,
  255n,
  1_000n,
  1_024n,
  65_535n,
  65_536n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 48n - 1n,
  2n ** 48n,
  2n ** 48n + 1n,
  2n ** 52n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
] as const;

/** An unsigned number of up to 64 bits, often at an edge. */
export function anyNumber(random: Random): bigint {
  if (random.oneIn(2)) return random.pick(EDGES);
  if (random.oneIn(2)) return BigInt(random.whole(0, 300));
  const bits = random.whole(1, 64);
  return BigInt.asUintN(bits, (BigInt(random.whole(0, 2 ** 32 - 1)) << 32n) | BigInt(random.whole(0, 2 ** 32 - 1)));
}

/** Bytes without a meaning, seldom many. */
export function anyBytes(random: Random, most = random.oneIn(50) ? 4_096 : 40): Buffer {
  const bytes = Buffer.alloc(random.whole(0, most));
  for (let at = 0; at < bytes.length; at++) bytes[at] = random.whole(0, 255);
  return bytes;
}

const TEXTS = [
  "",
  " ",
  "n1",
  "..",
  "/",
  "__proto__",
  "constructor",
  "toString",
  "\u0000",
  "a\nb",
  "\u{1f600}",
  "\ufeff",
  "%00",
  "-1",
  "NaN",
  "127.0.0.1:1",
  "[::1]:1",
  "localhost:99999",
  "x".repeat(64),
  "x".repeat(65),
  "x".repeat(300),
] as const;

/** Bytes of a text, which now and then are no UTF-8. */
export function anyText(random: Random): Buffer {
  if (random.oneIn(6)) return random.pick(BAD_UTF8);
  if (random.oneIn(200)) return Buffer.alloc(random.whole(1_000, 70_000), "long");
  return Buffer.from(random.pick(TEXTS), "utf8");
}

const BAD_UTF8 = [
  Buffer.from([0xff]),
  Buffer.from([0xc0, 0x80]),
  Buffer.from([0xed, 0xa0, 0x80]),
  Buffer.from([0x61, 0xe2, 0x82]),
  Buffer.from([0xf5, 0x80, 0x80, 0x80]),
] as const;
