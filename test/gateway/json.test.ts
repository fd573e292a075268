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

describe("the gateway's JSON", () => {
  test("keeps numbers that JavaScript cannot hold as they are written", () => {
    for (const number of ["12345678901234567890", "-9007199254740993", "0.1234567890123456789", "1e400", "1E-400"]) {
      const text = `{"a":[${number}]}`;
      expect(compact(parseJson(text))).toBe(text);
    }
  });

  test("keeps numbers as numbers, with one text for equal ones", () => {
    expect(compact(parseJson("[0,-1,1.5,1e2,100.0,9007199254740991]"))).toBe("[0,-1,1.5,100,100,9007199254740991]");
  });

  test("keeps any text, with and without a large number beside it", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value);
        expect(compact(parseJson(text))).toBe(text);
        expect(compact(parseJson(`[${text},12345678901234567890]`))).toBe(`[${text},12345678901234567890]`);
      }),
    );
  });

  test("is printed as JSON.stringify prints it", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value);
        expect(compact(JSON.parse(text))).toBe(text);
      }),
    );
  });

  test("keeps the escape of a lone surrogate", () => {
    expect(compact(parseJson('"\\ud800"'))).toBe('"\\ud800"');
  });

  test("treats __proto__ as an ordinary name", () => {
    for (const text of ['{"__proto__":1}', '{"__proto__":12345678901234567890}']) {
      expect(compact(parseJson(text))).toBe(text);
    }
  });

  test("takes the last value of a name that comes twice, with and without a large number", () => {
    expect(compact(parseJson('{"a":1,"a":2}'))).toBe('{"a":2}');
    expect(compact(parseJson('{"a":12345678901234567890,"a":2}'))).toBe('{"a":2}');
  });

  test("keeps the order of an OrderedObject's members, whatever their names", () => {
    const members: [string, unknown][] = [
      ["b", 1],
      ["10", 2],
      ["9", 3],
    ];
    expect(compact(new OrderedObject(members))).toBe('{"b":1,"10":2,"9":3}');
  });

  test("leaves out members without a value", () => {
    expect(compact({ a: undefined, b: null })).toBe('{"b":null}');
  });

  test("is printed as Python's json.dumps does when spaced", () => {
    const value = {
      a: [1, { b: "x,y:z" }, []],
      "k,:": {},
      s: StoredJson.from(Buffer.from('{"c":[1,"a,b: \\"c\\",d"]}')),
    };
    expect(spaced(value)).toBe('{"a": [1, {"b": "x,y:z"}, []], "k,:": {}, "s": {"c": [1, "a,b: \\"c\\",d"]}}');
  });

  test("differs only in white space between spaced and compact", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const stored = StoredJson.from(encodeValue(JSON.parse(JSON.stringify(value))));
        expect(spaced(stored)).toBe(spaced(value));
        expect(JSON.parse(spaced(stored))).toEqual(JSON.parse(compact(stored)));
      }),
    );
  });

  test("carries nesting up to the limit, and answers error 12 beyond it", () => {
    const deepest = nested(limits.gatewayJsonDepth);
    expect(JSON.parse(compact(deepest))).toEqual(deepest);
    expect(() => compact(nested(limits.gatewayJsonDepth + 1))).toThrow(
      expect.objectContaining({ code: 12, text: expect.stringContaining("gatewayJsonDepth") }),
    );
    expect(() => encodeValue(nested(100_000))).toThrow(expect.objectContaining({ code: 12 }));
  });
});

describe("a value of the store", () => {
  const print = (text: string | Uint8Array) => compact(StoredJson.from(Buffer.from(text as string)));

  test("is printed as it is when it is JSON", () => {
    expect(print('{"b":1.0,"a":12345678901234567890}')).toBe('{"b":1.0,"a":12345678901234567890}');
  });

  test("is printed as a string when it is not JSON", () => {
    expect(print("hello")).toBe('"hello"');
    expect(print("")).toBe('""');
    expect(print(Uint8Array.of(0xff))).toBe('"\ufffd"');
  });

  test("is printed on one line when another client wrote it on several", () => {
    expect(print('{\r\n  "a": [1,\n 2],\n  "b c": "d  e\\n"\n}')).toBe('{"a":[1,2],"b c":"d  e\\n"}');
  });

  test("is printed in both styles when it is JSON of any depth and size", () => {
    const deep = StoredJson.from(Buffer.from(`${"[".repeat(5000)}1,2${"]".repeat(5000)}`));
    expect(compact(deep)).toBe(deep.text);
    expect(spaced(deep)).toBe(deep.text.replace(",", ", "));
    const long = StoredJson.from(Buffer.from(JSON.stringify('"'.repeat(limits.valueBytes / 2 - 1))));
    expect(spaced(long)).toBe(long.text);
  });
});
