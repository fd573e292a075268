import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import type { StoreRules } from "../../../src/store/rules/rules.js";
import { chargeOf, DEFAULT_RULES, hash, isBlockEnd, isTableEnd } from "../../../src/store/rules/v1.js";

const rules: StoreRules = { ...DEFAULT_RULES, seeds: [1, 2] };
const text = (value: string) => Buffer.from(value, "latin1");
const hashOf = (value: string, seed: number) => hash(text(value), 0, value.length, seed);

describe("the hash", () => {
  test("is the one that the bytes of stores rest on", () => {
    expect(
      ["", "a", "abc", "abcd", "key-000000000017", "x".repeat(1_024)].map((key) => hashOf(key, 0x12345678)),
    ).toEqual([1716721639, 2475825062, 3650606702, 873769977, 3529328339, 1189145374]);
  });

  test("depends on the seed, the length, and each byte", () => {
    const base = Buffer.alloc(37);
    const seen = new Set([hash(base, 0, 37, 1), hash(base, 0, 36, 1), hash(base, 0, 37, 2)]);
    for (let at = 0; at < base.length; at += 1) {
      const changed = Buffer.from(base);
      changed[at] = 1;
      seen.add(hash(changed, 0, 37, 1));
    }
    expect(seen.size).toBe(3 + base.length);
  });

  test("is that of the span, wherever it lies", () => {
    const padded = text("..key-1..");
    expect(hash(padded, 2, 5, 9)).toBe(hashOf("key-1", 9));
    const shared = new Uint8Array(new SharedArrayBuffer(16));
    shared.set(text("key-1"), 3);
    expect(hash(shared, 3, 5, 9)).toBe(hashOf("key-1", 9));
  });

  test("spreads like keys evenly over all bits", () => {
    const ones = new Array(32).fill(0);
    const keys = 5_000;
    for (let n = 0; n < keys; n += 1) {
      const value = hashOf(`key-${String(n).padStart(12, "0")}`, 7);
      for (let bit = 0; bit < 32; bit += 1) ones[bit] += (value >>> bit) & 1;
    }
    // Five standard deviations of a fair coin.
    for (const count of ones) expect(Math.abs(count - keys / 2)).toBeLessThan(5 * Math.sqrt(keys / 4));
  });
});

describe("blocks and tables", () => {
  test("end by hash between their bounds", () => {
    expect(isBlockEnd(rules, rules.blockBytesMin - 1, 0)).toBe(false);
    expect(isBlockEnd(rules, rules.blockBytesMin, 0x100)).toBe(true);
    expect(isBlockEnd(rules, rules.blockBytesMin, 0x101)).toBe(false);
    expect(isBlockEnd(rules, rules.blockBytesMax - 1, 1)).toBe(false);
    expect(isBlockEnd(rules, rules.blockBytesMax, 1)).toBe(true);
    expect(isTableEnd(rules, rules.tableBytesMin - 1, 0)).toBe(false);
    expect(isTableEnd(rules, rules.tableBytesMin, 0x4000)).toBe(true);
    expect(isTableEnd(rules, rules.tableBytesMin, 0x100)).toBe(false);
    expect(isTableEnd(rules, rules.tableBytesMax, 1)).toBe(true);
  });

  test("use all 32 bits of a hash", () => {
    expect(isBlockEnd(rules, rules.blockBytesMin, 0x80000000)).toBe(true);
    expect(isBlockEnd(rules, rules.blockBytesMin, 0x80000001)).toBe(false);
  });
});

test("the charge of a record counts its head, key and value", () => {
  expect(chargeOf(16, 256)).toBe(24 + 272);
});

test.each(["v1.ts", "v1_sweeps.ts"])("%s uses no floats, no Math but of whole numbers, no locale, no time", (name) => {
  const source = readFileSync(resolve(import.meta.dirname, "../../../src/store/rules", name), "utf8");
  const code = source.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
  expect(code).toContain("StoreRules");
  expect(code).not.toMatch(
    /\d\.\d|\/ |\*\*|Math\.(?!imul|min|max)|Locale|Intl|Date|performance|random|BigInt|process\./i,
  );
});
