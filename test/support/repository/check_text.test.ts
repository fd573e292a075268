import { describe, expect, test } from "vitest";
import { problemsOf, untestedRules } from "./check_text.mjs";

/** A source file that opens as it should, so that only the sample can be wrong. It begins in line 3. */
const source = (sample: string) => problemsOf("src/room/file.ts", `/** Holds a sample. */\n\n${sample}\n`);
const linesOf = (problems: readonly string[]) => problems.map((each) => Number(each.split(":")[1]));

describe("the opening of a comment", () => {
  test.each(["What", "Who", "Whoever", "Where", "How"])("may not be %s with a clause", (word) => {
    const [problem, ...others] = source(`/** ${word} leads the cluster. */\nconst leader = 1;`);
    expect(problem).toMatch(new RegExp(`^src/room/file\\.ts:3: .*"${word}"`));
    expect(others).toEqual([]);
  });

  test("is checked in line comments, blocks, paragraphs and list items", () => {
    expect(linesOf(source("  // How it ends.\n  const end = 1;"))).toEqual([3]);
    expect(linesOf(source("/**\n * Ends.\n *\n * Where it ends.\n * - What it ends.\n */\nconst end = 1;"))).toEqual([
      6, 7,
    ]);
  });

  test("may be a question, also over several lines", () => {
    expect(source("// What is left?\nconst left = 1;")).toEqual([]);
    expect(source("// What is left, when all\n// of it is done? Nothing.\nconst left = 1;")).toEqual([]);
    expect(linesOf(source("// What is left. Is it much?\nconst left = 1;"))).toEqual([3]);
  });

  test("may be another word, a name, or the end of a sentence that wraps", () => {
    expect(source("/** However long it takes. */\nconst long = 1;")).toEqual([]);
    expect(source("/** Where: the index. How: the mode. */\nconst where = 1;")).toEqual([]);
    expect(source("/**\n * Ends it.\n * What follows is not looked at.\n */\nconst end = 1;")).toEqual([]);
  });

  test("is looked for in comments, not in code", () => {
    expect(source('const text = "// What it says";\nconst product = 2\n  * What (3);')).toEqual([]);
  });

  test("is checked in protobuf files, and nowhere outside src and proto", () => {
    const sample = "// How it is sent.\nmessage Sent {}\n";
    expect(linesOf(problemsOf("proto/cairn/v1/sent.proto", sample))).toEqual([1]);
    expect(problemsOf("test/sent.test.ts", sample)).toEqual([]);
  });
});

describe("the lines of a comment", () => {
  const line = (columns: number) => `// ${"x".repeat(columns - 3)}`;

  test("have 100 columns at most, in src", () => {
    expect(source(`${line(100)}\nconst x = 1;`)).toEqual([]);
    expect(source(`${line(100)}\n${line(101)}\nconst x = 1;`)).toEqual([
      "src/room/file.ts:4: a comment has 101 columns; at most 100",
    ]);
    expect(linesOf(source(`/**\n * ${"x".repeat(98)}\n */\nconst x = 1;`))).toEqual([4]);
    expect(problemsOf("test/x.test.ts", line(101))).toEqual([]);
  });

  test("are counted in characters, and code may be longer", () => {
    expect(source(`// ${"é".repeat(97)}\nconst x = "${"x".repeat(110)}";`)).toEqual([]);
  });
});

describe("a citation of a rule", () => {
  // In two parts, because this file is checked as well.
  const rule = ["ru", "le"].join("");

  test.each(["src/raft/log.md", "test/raft/log.test.ts", "proto/cairn/v1/raft.proto", "docs/raft.md", "README.md"])(
    "must be its tag in %s",
    (path) => {
      expect(problemsOf(path, `# Log\n\nKeeps ${rule} 7.\n`)).toEqual([
        `${path}:3: "${rule} 7" cites no rule: cite its tag, as R7 or T3`,
      ]);
      expect(problemsOf(path, `# Log\n\nKeeps R7, the ${rule} of 7 refusals, and ${rule} R3.\n`)).toEqual([]);
    },
  );

  test("is found in the plural, at the head of a sentence, and across a line end", () => {
    expect(linesOf(source(`/** Keeps ${rule}s 1 and 2. */\nconst a = "${rule.replace("r", "R")} 3";`))).toEqual([3, 4]);
    expect(linesOf(source(`/**\n * Keeps ${rule}\n * 7.\n */\nconst a = 1;\n// A ${rule}\n// 8.`))).toEqual([4, 8]);
  });

  test("may have any form outside these places", () => {
    expect(problemsOf("CHANGELOG.md", `Keeps ${rule} 7.`)).toEqual([]);
  });
});

describe("a source file is described", () => {
  const opening = (text: string) => problemsOf("src/room/file.ts", text);
  const missing = ["src/room/file.ts:1: the file has no opening sentence that says what it is for"];

  test("at its head, before or after its imports", () => {
    const imports = 'import { a } from "../a.js";\nimport {\n  b,\n  c,\n} from "../b.js";\nimport "../c.js";\n';
    expect(opening(`/** Adds. */\n\n${imports}\nconst sum = a + b;\n`)).toEqual([]);
    expect(opening(`#!/usr/bin/env node\n// Adds.\n${imports}\nconst sum = a + b;\n`)).toEqual([]);
    expect(opening(`${imports}\n// Adds.\n\nconst sum = a + b;\n`)).toEqual([]);
    expect(opening(`${imports}\nconst sum = a + b;\n`)).toEqual(missing);
  });

  test("by the doc comment of its first declaration or of its first export", () => {
    expect(opening("/** A sum. */\nexport const sum = 1;\n")).toEqual([]);
    expect(opening("const one = 1;\n\n/** A sum. */\nexport const sum = one;\n")).toEqual([]);
    expect(opening("const one = 1;\n\n// A sum.\nexport const sum = one;\n")).toEqual(missing);
    expect(opening("const one = 1;\n\n/** One. */\nconst two = 2;\nexport const sum = one + two;\n")).toEqual(missing);
    expect(opening("export const one = 1;\n\n/** A sum. */\nexport const sum = one;\n")).toEqual(missing);
  });

  test("but not by a directive or a tag", () => {
    expect(opening("// biome-ignore lint/style/useConst: it changes\nexport let sum = 1;\n")).toEqual(missing);
    expect(opening("/** @throws CairnError */\nexport function sum() {}\n")).toEqual(missing);
  });
});

describe("the title of a test", () => {
  const problemsOfTest = (text: string) => problemsOf("test/raft/log.test.ts", text);

  test.each([
    ["a sentence", 'test("a log keeps its entries", () => {});'],
    ["a sentence that its group begins", 'describe("a log", () => { test("is kept", () => {}); });'],
    ["the name of a call", 'test("AppendEntries are answered in order", () => {});'],
    ["a table's row behind its group", 'describe("a log is refused", () => { test.each(rows)("for %s", () => {}); });'],
    ["several rules", 'test("a directory is one member (T1, T3)", () => {});'],
    ["a title in two groups", `${group("a log", "holds one entry")}\n${group("a disk", "holds one entry")}`],
  ])("may be %s", (_, text) => expect(problemsOfTest(text)).toEqual([]));

  test.each([
    ["two words", 'test("damaged log", () => {});', "is no sentence"],
    ["a row alone", 'test.each(rows)("%s %s", () => {});', "is no sentence"],
    ["half a sentence", 'test("also when the log is empty", () => {});', "opens half a sentence"],
    ["a clause", 'describe("what is committed", () => {});', "opens half a sentence"],
    ["a translated turn", 'test("a log goes on behind a snapshot", () => {});', "reads as translated"],
    ["a capital word", 'test("Entries are kept in order", () => {});', "begins with a capital"],
    ["closed by a full stop", 'test("a log keeps its entries.", () => {});', "ends with a full stop"],
    ["headed by a rule", 'test("T3: a lost log is refused", () => {});', "outside of parentheses"],
    ["that of another test", group("a log", "is kept", "is kept"), "stands in line 1 already"],
    ["behind a modifier", 'test.skipIf(slow)("damaged log", () => {});', "is no sentence"],
  ])("may not be %s", (_, text, problem) => {
    expect(problemsOfTest(text)).toEqual([expect.stringContaining(problem)]);
  });

  function group(name: string, ...titles: string[]): string {
    return `describe("${name}", () => { ${titles.map((title) => `test("${title}", () => {});`).join(" ")} });`;
  }
});

test("a rule without a title that cites it is reported", () => {
  const architecture =
    "| R1 | skip | `a.ts` | `b.ts` |\n| R2 | compare | `a.ts` | `b.ts` |\n| T1 | one | `a.ts` | `b.ts` |";
  const tests = ['test("a prev below is skipped (R1)", () => {});', 'describe("a directory (T1)", () => {}); // R2'];
  expect(untestedRules(architecture, tests)).toEqual(["no title of a test cites (R2)"]);
});
