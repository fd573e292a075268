// Writes the reports of the public API, api/*.api.md, from the declarations in dist/. With --check it
// compares them instead, and fails on a difference. In both cases it fails when an exported
// declaration mentions a type of this package that no entry exports.
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Extractor, ExtractorConfig } from "@microsoft/api-extractor";

const ROOT = resolve(import.meta.dirname, "..");

/** The entries by the names of their reports, and their files in dist/src. The first one is `.`. */
const ENTRIES = { "cairn-raft": "index", client: "client", server: "server" };

/** The types of an application that imports the package. */
const compilerOptions = {
  target: "es2022",
  lib: ["es2023", "es2024.string", "esnext.disposable"],
  module: "nodenext",
  types: ["node"],
  strict: true,
  skipLibCheck: true,
};

/** Rules that the package does not follow: it has no release tags and no `@public`. */
const silent = ["ae-missing-release-tag", "ae-undocumented", "ae-unresolved-link"];

const check = process.argv.includes("--check");
/** Names that the entries so far export. */
const exported = new Set();

for (const [name, file] of Object.entries(ENTRIES)) {
  const mainEntryPointFilePath = join(ROOT, `dist/src/${file}.d.ts`);
  const model = join(ROOT, `dist/api/${name}.api.json`);
  const config = ExtractorConfig.prepare({
    configObject: {
      projectFolder: ROOT,
      mainEntryPointFilePath,
      compiler: { overrideTsconfig: { compilerOptions, files: [mainEntryPointFilePath] } },
      apiReport: {
        enabled: true,
        reportFolder: join(ROOT, "api"),
        reportTempFolder: join(ROOT, "dist/api"),
        reportFileName: `${name}.api.md`,
      },
      docModel: { enabled: true, apiJsonFilePath: model },
      newlineKind: "lf",
      messages: {
        compilerMessageReporting: { default: { logLevel: "error" } },
        extractorMessageReporting: {
          default: { logLevel: "error" },
          ...Object.fromEntries(silent.map((rule) => [rule, { logLevel: "none" }])),
        },
        tsdocMessageReporting: { default: { logLevel: "none" } },
      },
    },
    configObjectFullPath: undefined,
    packageJsonFullPath: join(ROOT, "package.json"),
  });
  const result = Extractor.invoke(config, { localBuild: !check, messageCallback });
  if (!result.succeeded) process.exitCode = 1;
  for (const { name: each } of JSON.parse(readFileSync(model, "utf8")).members[0].members) exported.add(each);
}
if (process.exitCode === 1 && check) console.error("If the change is meant: run `npm run api`, and commit api/.");

function messageCallback(message) {
  if (message.messageId === "console-preamble") message.handled = true;
  // An application imports the type from the other entry.
  if (message.messageId === "ae-forgotten-export" && exported.has(/"(\w+)"/.exec(message.text)[1]))
    message.logLevel = "none";
}
