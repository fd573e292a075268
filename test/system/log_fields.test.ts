import { expect, test } from "vitest";
import { Exporter } from "../../src/monitor/metrics/exporter.js";
import { ProcessFigures } from "../../src/monitor/process_figures.js";
import { logFields } from "../../src/system/log_fields.js";
import { readDocument } from "../support/repository/documents.js";
import { withoutComments } from "../support/repository/source_text.js";
import { sourceFiles } from "../support/repository/sources.js";

/** A call of a logger, with the beginning of its first argument. */
const CALL = /\b\w*[lL]ogger\??\.(?:debug|info|warn|error)\(\s*(\w+|\{|.)/g;

test("every call of a logger gives its facts as an object that the compiler compares with the fields", () => {
  let calls = 0;
  for (const { path, source } of sourceFiles()) {
    if (path.startsWith("src/page/")) continue;
    const code = withoutComments(source);
    for (const { 0: call, 1: first, index } of code.matchAll(CALL)) {
      calls++;
      expect(["{", "facts", "factsOf"], `${path}: ${call}`).toContain(first);
      // The compiler checks the fields of a literal only where its type is written down.
      const declared = [...code.slice(0, index).matchAll(/const facts(: LogFacts)? = (\w*)/g)].at(-1);
      if (first === "facts" && declared !== undefined)
        expect(declared[1] ?? declared[2], path).toMatch(/LogFacts|factsOf/);
    }
  }
  expect(calls).toBeGreaterThan(40);
});

test("a field with the meaning of a metric or a label names one that exists", async () => {
  const figures = new ProcessFigures(import.meta.dirname);
  const { families } = new Exporter(() => undefined, figures);
  figures.stop();
  const names = new Set(families.map(({ name }) => name));
  const sources = sourceFiles().filter(({ path }) => path.startsWith("src/monitor/metrics/"));
  const code = sources.map(({ source }) => source).join("\n");
  for (const [field, rules] of Object.entries(logFields)) {
    if ("metric" in rules) expect(names, field).toContain(rules.metric);
    if ("label" in rules) {
      expect(rules.label).toBe(field);
      expect(code, field).toMatch(new RegExp(`labels: \\{[^}]*\\b${field}\\b`));
    }
  }
});

test("docs/monitoring.md lists every field of the log, in the words of the code", () => {
  const page = readDocument("docs/monitoring.md");
  const rows = Object.entries(logFields).map(([field, rules]) => {
    const metric = "metric" in rules ? `\`${rules.metric}\`` : "label" in rules ? `label \`${rules.label}\`` : "";
    return `| \`${field}\` | ${rules.text} | ${metric} |`;
  });
  expect(page).toContain(rows.join("\n"));
});

test("docs/operations.md says what to do about every warning and error of a node's log", () => {
  const page = readDocument("docs/operations.md");
  const messages = sourceFiles()
    .filter(({ path }) => !path.startsWith("src/gateway/") && !path.startsWith("src/page/"))
    .flatMap(({ path, source }) =>
      [...withoutComments(source).matchAll(/[lL]ogger\??\.(?:warn|error)\(([^;]*?)"([^"]{6,})",?\s*\)/g)].map(
        ([, , message]) => ({ path, message: message! }),
      ),
    );
  expect(messages.length).toBeGreaterThan(25);
  for (const { path, message } of messages) expect(page.replaceAll("\n", " "), path).toContain(message.split(":")[0]);
});
