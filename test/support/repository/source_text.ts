/** An import or re-export of another module. */
export interface Import {
  readonly specifier: string;
  /** `import type` or `export type`: nothing is loaded at run time. */
  readonly typeOnly: boolean;
}

/** All that a source file imports or re-exports, comments not counted. */
export function importsOf(source: string): Import[] {
  const code = withoutComments(source);
  const declared =
    /^[ \t]*(?:import|export)\b\s*(type\b(?!\s*,|\s*from\b)\s*)?(?:[^;"'`]*?[\s}*]from\s*)?["']([^"']+)["']/gm;
  const called = /\bimport\s*\(\s*["'`]([^"'`]+)["'`]/g;
  return [
    ...[...code.matchAll(declared)].map((match) => ({ specifier: match[2]!, typeOnly: match[1] !== undefined })),
    ...[...code.matchAll(called)].map((match) => ({ specifier: match[1]!, typeOnly: false })),
  ];
}

/** TypeScript source with a space in place of each comment; line breaks stay. Strings, templates and regular expressions are kept. */
export function withoutComments(source: string): string {
  let code = "";
  let at = 0;
  /** One element for each template that is open: braces that are open in its present expression. */
  const templates: number[] = [];
  while (at < source.length) {
    const end = endOfToken(source, at, code, templates);
    const token = source.slice(at, end);
    code += isComment(token) ? ` ${token.replace(/[^\n]/g, "")}` : token;
    at = end;
  }
  return code;
}

function isComment(token: string): boolean {
  return token.startsWith("//") || token.startsWith("/*");
}

/** Where the string, comment, regular expression or other character that starts at `at` ends. */
function endOfToken(source: string, at: number, before: string, templates: number[]): number {
  const char = source[at]!;
  if (source.startsWith("//", at)) return endOr(source, source.indexOf("\n", at));
  if (source.startsWith("/*", at)) return endOr(source, source.indexOf("*/", at + 2), 2);
  if (char === '"' || char === "'") return endOfQuoted(source, at + 1, char);
  if (char === "/" && startsExpression(before)) return endOfRegularExpression(source, at + 1);
  if (char === "`") return endOfTemplateText(source, at + 1, templates);
  if (templates.length > 0 && char === "{") templates.push(templates.pop()! + 1);
  if (templates.length > 0 && char === "}") {
    const open = templates.pop()!;
    if (open === 0) return endOfTemplateText(source, at + 1, templates);
    templates.push(open - 1);
  }
  return at + 1;
}

function endOr(source: string, found: number, length = 0): number {
  return found < 0 ? source.length : found + length;
}

function endOfQuoted(source: string, from: number, quote: string): number {
  let at = from;
  while (at < source.length && source[at] !== quote && source[at] !== "\n") at += source[at] === "\\" ? 2 : 1;
  return Math.min(at + 1, source.length);
}

/** Up to the template's end, or to the expression inside it, which is then open. */
function endOfTemplateText(source: string, from: number, templates: number[]): number {
  let at = from;
  while (at < source.length && source[at] !== "`") {
    if (source.startsWith("${", at)) {
      templates.push(0);
      return at + 2;
    }
    at += source[at] === "\\" ? 2 : 1;
  }
  return Math.min(at + 1, source.length);
}

function endOfRegularExpression(source: string, from: number): number {
  let at = from;
  let inClass = false;
  while (at < source.length && source[at] !== "\n" && (inClass || source[at] !== "/")) {
    if (source[at] === "[") inClass = true;
    if (source[at] === "]") inClass = false;
    at += source[at] === "\\" ? 2 : 1;
  }
  return Math.min(at + 1, source.length);
}

/** Whether a value is expected after this code, so that a slash begins a regular expression and does not divide. */
function startsExpression(before: string): boolean {
  return /(?:^|[=(,:;!&|?{}[+\-*%<>~^]|\b(?:return|typeof|case|in|of))\s*$/.test(before.slice(-40));
}
