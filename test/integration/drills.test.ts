import { spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeNodeCertificate } from "../../src/certificates/issue.js";
import { DocumentShell, missingLines } from "../support/processes/document_shell.js";
import { inRepository } from "../support/processes/processes.js";
import { blocksOf, chaptersOf, readDocument } from "../support/repository/documents.js";

// Follows docs/drills.md from top to bottom, on one cluster.

const PAGE = "docs/drills.md";
const SETUP = "A cluster to practise on";
const DAY_MS = 86_400_000;

const drills = chaptersOf(PAGE).filter((chapter) => chapter !== SETUP);

function preload(file: string): string {
  return `--import=${pathToFileURL(inRepository(file)).href}`;
}

/** The harm that no command of a reader can do, where a remark in the page says so: before its first block, or the one that it precedes. */
const harms: Readonly<Record<string, (shell: DocumentShell) => Promise<unknown>>> = {
  "A slow disk": async (shell) => {
    const delay = join(shell.directory, "sync-delay");
    await writeFile(delay, "700");
    await shell.run(
      `stop n3; CAIRN_TEST_SYNC_DELAY=${delay} NODE_OPTIONS=${preload("test/support/disk/slow_syncs.mjs")} start n3`,
    );
    await shell.run("cairn kv put slow 1");
  },
  "A clock that jumps": (shell) =>
    shell.run(
      `stop n3; CAIRN_TEST_CLOCK_AHEAD_MS=600000 NODE_OPTIONS=${preload("test/support/disk/shifted_clock.mjs")} start n3`,
    ),
  "Certificates that end": async (shell) => {
    const file = (name: string) => join(shell.directory, "certs", name);
    const text = (name: string) => readFile(file(name), "utf8");
    const authority = {
      certificate: await text("peer-authority/authority.crt"),
      key: await text("peer-authority/authority.key"),
    };
    const subject = { id: "t3", clusterId: "dev", hosts: ["127.0.0.1", "localhost"] };
    const ended = await makeNodeCertificate(authority, subject, { days: 1, now: Date.now() - 2 * DAY_MS });
    await writeFile(file("nodes/t3.crt"), ended.certificate);
    await writeFile(file("nodes/t3.key"), ended.key);
    await shell.run("stop t3; start t3");
  },
};

/** The drills of `npm test`; `npm run drills` does all. Each ends with a cluster that is well, so any may be left out. */
const SOME = ["A dead node", "A lost disk", "Damaged files", "A majority is lost"];

/** Why a drill is not done; undefined when it is. */
function obstacle(drill: string): string | undefined {
  if (process.env.CAIRN_DRILLS !== "all" && !SOME.includes(drill)) return "npm run drills does it";
  if (drill !== "A full disk") return undefined;
  return canMount() ? undefined : "this process may not mount a small disk";
}

function canMount(): boolean {
  const tried = spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
  return process.getuid?.() === 0 && tried.status === 0;
}

describe("the drills of docs/drills.md", () => {
  let shell: DocumentShell;
  let failed: string | undefined;

  beforeAll(async () => {
    shell = await DocumentShell.start({ document: readDocument(PAGE) });
    await shell.follow(blocksOf(PAGE, SETUP));
  }, 300_000);
  afterAll(async () => {
    spawnSync("umount", ["-l", join(shell.directory, "n3")]);
    await shell?.close();
  });

  test.each(drills)("work, and end well: %s", { timeout: 600_000 }, async (drill) => {
    const why = obstacle(drill);
    if (why !== undefined) {
      console.log(`skipped, ${why}: ${drill}`);
      return;
    }
    if (failed !== undefined)
      throw new Error(`it needs a cluster that is well, and this one has failed before: ${failed}`);
    failed = drill;
    const [before, after] = splitAtHarm(drill);
    await shell.follow(before);
    await harms[drill]?.(shell);
    await shell.follow(after);
    failed = undefined;
  });
});

/** The blocks of a drill before and behind the remark that the test does harm. */
function splitAtHarm(drill: string) {
  const all = blocksOf(PAGE, drill);
  if (harms[drill] === undefined) return [all, []] as const;
  const behind = blocksOf(PAGE, drill, "<!-- The test ");
  return [all.slice(0, all.length - behind.length), behind] as const;
}

test("the page's table leads to every drill", () => {
  const page = readDocument(PAGE);
  const missing = drills.filter((drill) => !page.includes(`[${drill}](#${drill.toLowerCase().replaceAll(" ", "-")})`));
  expect(missing).toEqual([]);
});

test("the alerts that the page names exist", () => {
  const alerts = readDocument("docs/monitoring/alerts.yml");
  const named = [...new Set(readDocument(PAGE).match(/\bCairn[A-Z]\w+/g))];
  expect(named.length).toBeGreaterThan(5);
  expect(named.filter((name) => !alerts.includes(`alert: ${name}\n`))).toEqual([]);
});

test("lines that a document shows are looked for part by part, in order, whatever the columns' widths", () => {
  const output = "ID  ROLE\nn1  leader    healthy\n";
  expect(missingLines(output, "n1 ... healthy\n")).toEqual([]);
  expect(missingLines(output, "n1 leader healthy\nn2 ...\nn1 ... healthy ... leader\n")).toEqual([
    "n2 ...",
    "n1 ... healthy ... leader",
  ]);
});
