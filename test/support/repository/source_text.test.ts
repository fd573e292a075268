import { describe, expect, test } from "vitest";
import { importsOf, withoutComments } from "./source_text.js";

describe("the source text without its comments", () => {
  test.each([
    ["a // b\nc", "a  \nc"],
    ["a /* b\n */ c", "a  \n c"],
    ['a = "// not" // but', 'a = "// not"  '],
    ["a = '/* not */'", "a = '/* not */'"],
    ['a = "\\"// not"', 'a = "\\"// not"'],
    [`a = \`// not \${b /* but */} // not\``, `a = \`// not \${b  } // not\``],
    [`a = \`\${\`\${{ b }} // not\`}\` // but`, `a = \`\${\`\${{ b }} // not\`}\`  `],
    ["a = /[/]\\/\\*/ // but", "a = /[/]\\/\\*/  "],
    ["a = b / c // but", "a = b / c  "],
    ["a /* no end", "a  "],
  ])("%s", (source, expected) => {
    expect(withoutComments(source)).toBe(expected);
  });
});

describe("the imports in a source text", () => {
  test.each([
    ['import a from "x";', false],
    ['import { a, type B } from "x";', false],
    ['import {\n  a,\n  b,\n} from "x";', false],
    ['import * as a from "x";', false],
    ['import "x";', false],
    ['import type { A } from "x";', true],
    ['export { a } from "x";', false],
    ['export * from "x";', false],
    ['export*from"x";', false],
    ['export type { A } from "x";', true],
    ['const a = await import("x");', false],
    ['import type from "x";', false],
  ])("%s", (source, typeOnly) => {
    expect(importsOf(source)).toEqual([{ specifier: "x", typeOnly }]);
  });

  test("are nothing else", () => {
    const source = 'export const a = "x";\n// import "y";\nexport class From { from = "z"; }\nreport("import w");\n';
    expect(importsOf(source)).toEqual([]);
  });
});
