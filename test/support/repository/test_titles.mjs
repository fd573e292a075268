// Checks the titles of the tests, which must make sense alone in a list of failures. The check reads
// the sources, and runs no test.
import { createRequire } from "node:module";

/** TypeScript 7 offers JavaScript no parser. The API report is made with a version that does. */
const typescript = createRequire(createRequire(import.meta.url).resolve("@microsoft/api-extractor"))("typescript");

const CALLS = new Set(["test", "it", "describe", "suite"]);

/** A table is applied to these first; the call of its result has the title. */
const TABLES = new Set(["each", "for", "skipIf", "runIf"]);

/** A title with the titles of its groups makes a sentence, which has no fewer words. */
const WORDS_MIN = 3;

/** These words open half a sentence, whose subject is in another test. */
const HALF_SENTENCE = /^(also|likewise|nor|or|so|twice|what|who|whoever|where|how) /i;

/** Turns that read as translated. */
const TRANSLATED = /\b(any more|go(es)? on|is there|is had)\b/;

/** Begins with a capital: a name in camel case or capitals, or one of these. */
const NAME = /^([A-Z][a-z]*[A-Z0-9]|[A-Z0-9_]+\b|(Raft|Campaign|Compact|SIG[A-Z]+)\b)/;

const TAG = /\b[RT]\d{1,2}\b/g;
const TAGS_IN_PLACE = /\((?:[RT]\d{1,2})(?:, [RT]\d{1,2})*\)/g;

/** Returns the titles of a file of tests: `path` holds those of the groups around a title. */
export function titlesOf(text) {
  const source = typescript.createSourceFile("tests.ts", text, typescript.ScriptTarget.Latest, true);
  const titles = [];
  const visit = (node, groups) => {
    const call = titledCall(node);
    if (call === undefined) return typescript.forEachChild(node, (child) => visit(child, groups));
    const title = titleText(call.title);
    const line = source.getLineAndCharacterOfPosition(call.title.getStart()).line + 1;
    titles.push({ line, title, groups, isGroup: call.isGroup });
    for (const argument of node.arguments.slice(1)) visit(argument, call.isGroup ? [...groups, title] : groups);
  };
  visit(source, []);
  return titles;
}

/** Returns the problems of the titles of one file. */
export function titleProblems(text) {
  const titles = titlesOf(text);
  const seen = new Map();
  return titles.flatMap(({ line, title, groups, isGroup }) => {
    const problems = [];
    const sentence = [...groups, title].join(" ");
    const words = sentence.replace(/[%$]\{?\w+\}?/g, "").match(/[\w'-]+/g) ?? [];
    if (!isGroup && words.length < WORDS_MIN) problems.push("is no sentence, with the titles of its groups neither");
    if (HALF_SENTENCE.test(title)) problems.push("opens half a sentence: name an actor");
    if (TRANSLATED.test(title)) problems.push("reads as translated: say continue, resume, exist, no longer");
    if (/^[A-Z]/.test(title) && !NAME.test(title)) problems.push("begins with a capital, and not with a name");
    if (title.endsWith(".")) problems.push("ends with a full stop");
    if (TAG.test(title.replaceAll(TAGS_IN_PLACE, ""))) problems.push("cites a rule outside of parentheses: (T3)");
    TAG.lastIndex = 0;
    if (!isGroup && seen.has(sentence)) problems.push(`stands in line ${seen.get(sentence)} already`);
    seen.set(sentence, line);
    return problems.map((problem) => ({ line, problem: `the title "${title}" ${problem}` }));
  });
}

/** Returns the rules that the titles of these texts cite. */
export function citedRules(texts) {
  return new Set(texts.flatMap(titlesOf).flatMap(({ title }) => title.match(TAG) ?? []));
}

/** Recognizes `test("title", ...)`, also with modifiers and behind a table. */
function titledCall(node) {
  if (!typescript.isCallExpression(node) || node.arguments.length < 2) return undefined;
  const { expression, parent } = node;
  if (typescript.isCallExpression(parent) && parent.expression === node) return undefined;
  if (typescript.isPropertyAccessExpression(expression) && TABLES.has(expression.name.text)) return undefined;
  const name = nameOf(expression);
  if (name === undefined || !CALLS.has(name)) return undefined;
  const [title] = node.arguments;
  const isText = typescript.isStringLiteralLike(title) || typescript.isTemplateExpression(title);
  return isText ? { title, isGroup: name === "describe" || name === "suite" } : undefined;
}

function nameOf(expression) {
  if (typescript.isIdentifier(expression)) return expression.text;
  const inner = expression.expression ?? expression.tag;
  return inner === undefined ? undefined : nameOf(inner);
}

/** Shows the expressions of a template as they are in the source. */
function titleText(title) {
  return typescript.isStringLiteralLike(title) ? title.text : title.getText().slice(1, -1);
}
