import { describe, expect, test } from "vitest";
import { Fields } from "../../src/gateway/fields.js";
import { parseJson } from "../../src/gateway/json.js";

const fields = new Fields(
  parseJson(
    '{"s":"x","empty":"","n":7,"high":281474976710657,"zero":0,"minus":-1,"half":1.5,"big":12345678901234567890,"t":true,"null":null,' +
      '"o":{"in":1},"l":["a"],"mixed":["a",1],"os":[{"a":1},{"a":"x"}],"bad":[{},3],"lone":"\\ud800","exp":1e400}',
  ) as Record<string, unknown>,
);

/** Reads a field of another type, or one that is not there. */
const wrong: readonly [name: string, read: () => unknown, text: string][] = [
  ["a missing field", () => fields.string("none"), "field none is missing"],
  ["a name of Object's own", () => fields.count("constructor"), "field constructor must be a whole number from 0"],
  ["a string that is null", () => fields.string("null"), "field null must be a string"],
  ["a string that is a number", () => fields.string("n"), "field n must be a string"],
  ["a count that is a string", () => fields.count("s"), "field s must be a whole number from 0"],
  ["a count below 0", () => fields.count("minus"), "field minus must be a whole number from 0"],
  ["a count below its least", () => fields.count("zero", 1), "field zero must be a whole number from 1"],
  ["a count that is no whole number", () => fields.count("half"), "field half must be a whole number from 0"],
  ["a count above 2^53", () => fields.count("big"), "field big must be a whole number from 0"],
  [
    "a term above its bound (T6)",
    () => fields.count("high", 1, "termMax"),
    "field high must be a whole number from 1 to 281474976710656 (termMax)",
  ],
  ["an integer that is no whole number", () => fields.integer("half"), "field half must be a whole number"],
  ["an integer above 2^53", () => fields.integer("big"), "field big must be a whole number"],
  ["a boolean that is a number", () => fields.boolean("n"), "field n must be true or false"],
  ["a choice that is none", () => fields.oneOf("s", ["a", "b"]), "field s must be one of a, b"],
  ["an object that is a list", () => fields.object("l"), "field l must be an object"],
  ["an object that is a large number", () => fields.object("big"), "field big must be an object"],
  ["an object that is null", () => fields.entries("null"), "field null must be an object"],
  ["a list that is an object", () => fields.objects("o"), "field o must be a list"],
  ["a list of objects with something else", () => fields.objects("bad"), "field bad[1] must be an object"],
  ["strings with something else", () => fields.strings("mixed"), "field mixed must be a list of strings"],
  ["a field within an object", () => fields.object("o").string("in"), "field o.in must be a string"],
  ["a field within a list", () => fields.objects("os")[1]!.count("a"), "field os[1].a must be a whole number from 0"],
  ["an empty key", () => fields.key("empty"), "field empty must not be empty"],
  ["a key that is an object", () => fields.key("o"), "field o must be a string of whole characters, or a number"],
  [
    "a key with half a character",
    () => fields.key("lone"),
    "field lone must be a string of whole characters, or a number",
  ],
];

describe("a request's field", () => {
  test("is read with its type", () => {
    expect(fields.string("s")).toBe("x");
    expect(fields.count("n")).toBe(7);
    expect(fields.count("zero")).toBe(0);
    expect(fields.integer("minus")).toBe(-1);
    expect(fields.boolean("t")).toBe(true);
    expect(fields.oneOf("s", ["a", "x"])).toBe("x");
    expect(fields.value("null")).toBe(null);
    expect(fields.strings("l")).toEqual(["a"]);
    expect(fields.entries("o")).toEqual([["in", 1]]);
    expect(fields.object("o").count("in")).toBe(1);
    expect(fields.objects("os")[0]!.count("a")).toBe(1);
    expect(fields.has("null")).toBe(true);
    expect(fields.has("none")).toBe(false);
  });

  test("is the text of a string or a number when it is a key", () => {
    const keys = ["s", "n", "minus", "half", "big", "exp"].map((name) => fields.key(name).toString());
    expect(keys).toEqual(["x", "7", "-1", "1.5", "12345678901234567890", "1e400"]);
  });

  test.each(wrong)("is error 12 that names it, for %s", (_, read, text) => {
    expect(read).toThrow(expect.objectContaining({ code: 12, text }));
  });
});
