// Checks the comments of the sources, the titles of the tests, and the citations of the rules. As a
// program, it prints each problem with its file and line, and exits with 1 if there is any.
import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { citedRules, titleProblems } from "./test_titles.mjs";

const MAX_COLUMNS = 100;

/** Comments name an actor first: these words open a clause that is used as a noun. */
const NOUN_CLAUSE = /^(What|Who|Whoever|Where|How) [a-z]/;

/** A rule is cited by its tag (R7, T3), also where the line wraps inside the citation. */
const BARE_CITATION = /\brules?(?:[^\S\n]+|\s*\n\s*(?:\*|\/\/)?\s*)\d+\b/gi;

/** Text that is for a tool, and opens no file. */
const DIRECTIVE = /^(@|biome-ignore|eslint|prettier|<reference)/;

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** Returns the problems of one file; `path` is below the repository, with forward slashes. */
export function problemsOf(path, text) {
  const isSource = path.startsWith("src/") && path.endsWith(".ts");
  const problems = [];
  if (isSource || path.endsWith(".proto")) {
    const { comments, code } = split(text);
    problems.push(...comments.flatMap(nounClauses));
    if (isSource) problems.push(...comments.flatMap(longLines), ...missingOpening(comments, code));
  }
  if (isTest(path)) problems.push(...titleProblems(text));
  if (/^(src|test|proto|docs)\/|^README\.md$/.test(path)) problems.push(...bareCitations(text));
  return problems.sort((a, b) => a.line - b.line).map(({ line, problem }) => `${path}:${line}: ${problem}`);
}

/** Returns a problem for each rule of ARCHITECTURE.md that no title of these texts of tests cites. */
export function untestedRules(architecture, texts) {
  const cited = citedRules(texts);
  const rules = [...architecture.matchAll(/^\| ([RT]\d+) \|/gm)].map((match) => match[1]);
  return rules.filter((rule) => !cited.has(rule)).map((rule) => `no title of a test cites (${rule})`);
}

function isTest(path) {
  return path.startsWith("test/") && path.endsWith(".ts");
}

/**
 * Separates comments from code. A comment is a block that begins a line, or consecutive lines that
 * begin with two slashes. Its `lines` are as in the file, its `text` is without the marks. Lines
 * count from 1.
 */
function split(text) {
  const comments = [];
  const code = [];
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; at++) {
    const from = at;
    const start = /^\s*(\/\*|\/\/)/.exec(lines[at])?.[1];
    if (start === undefined) {
      if (lines[at].trim() !== "" && !lines[at].startsWith("#!")) code.push({ line: at + 1, text: lines[at] });
      continue;
    }
    if (start === "//") while (/^\s*\/\//.test(lines[at + 1] ?? "")) at++;
    else while (!lines[at].includes("*/") && at + 1 < lines.length) at++;
    const whole = lines.slice(from, at + 1);
    const behind = start === "/*" ? lines[at].slice(lines[at].indexOf("*/") + 2) : "";
    if (behind.trim() !== "") code.push({ line: at + 1, text: behind });
    comments.push({
      line: from + 1,
      isDoc: /^\s*\/\*\*/.test(lines[from]),
      lines: whole,
      text: whole.map(withoutMarks),
    });
  }
  return { comments, code };
}

function withoutMarks(line) {
  return line
    .replace(/\*\/.*$/, "")
    .replace(/^\s*(\/\*\*?|\/\/|\*)/, "")
    .trim();
}

/** Looks at the first sentence of the comment, and of each of its paragraphs and list items. */
function nounClauses({ line, text }) {
  return text.flatMap((words, at) => {
    const isOpening = at === 0 || text[at - 1] === "" || words.startsWith("- ");
    const opening = words.replace(/^- /, "");
    if (!isOpening || !NOUN_CLAUSE.test(opening)) return [];
    const end = text.indexOf("", at + 1);
    const sentence = /^.*?[.?!](?=\s|$)/.exec([opening, ...text.slice(at + 1, end < 0 ? undefined : end)].join(" "));
    if (sentence?.[0].endsWith("?")) return [];
    const problem = `a comment opens with "${opening.split(" ", 1)[0]}": name an actor, or say what the code does`;
    return [{ line: line + at, problem }];
  });
}

function longLines({ line, lines }) {
  return lines.flatMap((each, at) => {
    const columns = [...each].length;
    if (columns <= MAX_COLUMNS) return [];
    return [{ line: line + at, problem: `a comment has ${columns} columns; at most ${MAX_COLUMNS}` }];
  });
}

/** A file opens with a sentence at its head, or in the comment of its first declaration or export. */
function missingOpening(comments, code) {
  const declared = withoutImports(code);
  const first = declared[0]?.line ?? Number.POSITIVE_INFINITY;
  const firstExport = declared.find(({ text }) => /^export\b/.test(text))?.line;
  const opens = comments
    .filter(({ text }) => !DIRECTIVE.test(text.find((words) => words !== "") ?? "@"))
    .some(({ line, lines, isDoc }) => line < first || (isDoc && line + lines.length === firstExport));
  return opens ? [] : [{ line: 1, problem: "the file has no opening sentence that says what it is for" }];
}

function withoutImports(code) {
  let isImport = false;
  return code.filter(({ text }) => {
    isImport ||= /^import\b(?!\s*\()/.test(text);
    const isPart = isImport;
    if (/["'](\s+with\s+\{.*\})?;?\s*$/.test(text)) isImport = false;
    return !isPart;
  });
}

function bareCitations(text) {
  return [...text.matchAll(BARE_CITATION)].map((match) => ({
    line: text.slice(0, match.index).split("\n").length,
    problem: `"${match[0].replace(/\s[\s*/]*/g, " ")}" cites no rule: cite its tag, as R7 or T3`,
  }));
}

/** Returns the paths of all files that are checked, below the repository. */
function checkedFiles() {
  const below = (folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(ts|mts|mjs|proto|md|txt)$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length).replaceAll("\\", "/"));
  return ["README.md", ...["src", "test", "proto", "docs"].flatMap(below).sort()];
}

// The path may lead through a symbolic link, which Node resolves in import.meta.url.
if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const files = checkedFiles();
  const read = (path) => readFileSync(join(root, path), "utf8");
  const problems = files.flatMap((path) => problemsOf(path, read(path)));
  problems.push(...untestedRules(read("ARCHITECTURE.md"), files.filter(isTest).map(read)));
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) {
    console.error(`${problems.length} problems in ${files.length} files`);
    process.exitCode = 1;
  }
}
