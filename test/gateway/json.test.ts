import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { encodeValue, OrderedObject, parseJson, printJson, StoredJson } from "../../src/gateway/json.js";

const compact = (value: unknown) => printJson(value, "compact");
const spaced = (value: unknown) => printJson(value, "spaced");

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level++) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

describe("JSON", () => {
  test("numbers that JavaScript cannot hold stay as they are written", () => {
    for (const number of ["12345678901234567890", "-9007199254740993", "0.1234567890123456789", "1e400", "1E-400"]) {
      const text = `{"a":[${number}]}`;
      expect(compact(parseJson(text))).toBe(text);
    }
  });

  test("numbers stay numbers, and equal ones get the same text", () => {
    expect(compact(parseJson("[0,-1,1.5,1e2,100.0,9007199254740991]"))).toBe("[0,-1,1.5,100,100,9007199254740991]");
  });

  test("any text comes back as it was, with and without a large number beside it", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value);
        expect(compact(parseJson(text))).toBe(text);
        expect(compact(parseJson(`[${text},12345678901234567890]`))).toBe(`[${text},12345678901234567890]`);
      }),
    );
  });

  test("any value is printed as JSON.stringify does", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value);
        expect(compact(JSON.parse(text))).toBe(text);
      }),
    );
  });

  test("a lone surrogate keeps its escape", () => {
    expect(compact(parseJson('"\\ud800"'))).toBe('"\\ud800"');
  });

  test("__proto__ is a name like any other", () => {
    for (const text of ['{"__proto__":1}', '{"__proto__":12345678901234567890}']) {
      expect(compact(parseJson(text))).toBe(text);
    }
  });

  test("of a name that comes twice the last value counts, with and without a large number", () => {
    expect(compact(parseJson('{"a":1,"a":2}'))).toBe('{"a":2}');
    expect(compact(parseJson('{"a":12345678901234567890,"a":2}'))).toBe('{"a":2}');
  });

  test("the members of an OrderedObject keep their order, whatever their names", () => {
    const members: [string, unknown][] = [
      ["b", 1],
      ["10", 2],
      ["9", 3],
    ];
    expect(compact(new OrderedObject(members))).toBe('{"b":1,"10":2,"9":3}');
  });

  test("a member without a value is left out", () => {
    expect(compact({ a: undefined, b: null })).toBe('{"b":null}');
  });

  test("spaced is what Python's json.dumps prints", () => {
    const value = {
      a: [1, { b: "x,y:z" }, []],
      "k,:": {},
      s: StoredJson.from(Buffer.from('{"c":[1,"a,b: \\"c\\",d"]}')),
    };
    expect(spaced(value)).toBe('{"a": [1, {"b": "x,y:z"}, []], "k,:": {}, "s": {"c": [1, "a,b: \\"c\\",d"]}}');
  });

  test("spaced and compact differ in white space only", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const stored = StoredJson.from(encodeValue(JSON.parse(JSON.stringify(value))));
        expect(spaced(stored)).toBe(spaced(value));
        expect(JSON.parse(spaced(stored))).toEqual(JSON.parse(compact(stored)));
      }),
    );
  });

  test("nesting up to the limit is carried, beyond it is error 12", () => {
    const deepest = nested(limits.gatewayJsonDepth);
    expect(JSON.parse(compact(deepest))).toEqual(deepest);
    expect(() => compact(nested(limits.gatewayJsonDepth + 1))).toThrow(
      expect.objectContaining({ code: 12, text: expect.stringContaining("gatewayJsonDepth") }),
    );
    expect(() => encodeValue(nested(100_000))).toThrow(expect.objectContaining({ code: 12 }));
  });
});

describe("what the store holds", () => {
  const print = (text: string | Uint8Array) => compact(StoredJson.from(Buffer.from(text as string)));

  test("JSON is printed as it is", () => {
    expect(print('{"b":1.0,"a":12345678901234567890}')).toBe('{"b":1.0,"a":12345678901234567890}');
  });

  test("what is no JSON becomes a string", () => {
    expect(print("hello")).toBe('"hello"');
    expect(print("")).toBe('""');
    expect(print(Uint8Array.of(0xff))).toBe('"\ufffd"');
  });

  test("JSON on several lines, which another client wrote, is printed on one", () => {
    expect(print('{\r\n  "a": [1,\n 2],\n  "b c": "d  e\\n"\n}')).toBe('{"a":[1,2],"b c":"d  e\\n"}');
  });

  test("JSON of any depth and size is printed in both styles", () => {
    const deep = StoredJson.from(Buffer.from(`${"[".repeat(5000)}1,2${"]".repeat(5000)}`));
    expect(compact(deep)).toBe(deep.text);
    expect(spaced(deep)).toBe(deep.text.replace(",", ", "));
    const long = StoredJson.from(Buffer.from(JSON.stringify('"'.repeat(limits.valueBytes / 2 - 1))));
    expect(spaced(long)).toBe(long.text);
  });
});
