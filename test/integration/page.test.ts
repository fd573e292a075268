import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findChromium } from "../support/processes/chromium.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { inRepository } from "../support/processes/processes.js";

/** Largest size of everything that a browser loads, in bytes. */
const PAGE_BYTES_MAX = 150 * 1024;

const chromium = findChromium();
if (chromium === undefined) console.log("skipped: there is no Chromium, so the page is not tried in a browser");

test("the page's files together are below 150 KB, and name no other host", () => {
  const files = ["index.html", "page.js", "page.css"].map((name) =>
    readFileSync(inRepository("dist/page", name), "utf8"),
  );
  expect(files.reduce((sum, text) => sum + Buffer.byteLength(text), 0)).toBeLessThan(PAGE_BYTES_MAX);
  const hosts = files.flatMap((text) => text.match(/(?<!xmlns=.)https?:\/\/[a-z0-9.-]+/g) ?? []);
  expect([...new Set(hosts)].filter((host) => host !== "http://www.w3.org" && host !== "https://github.com")).toEqual(
    [],
  );
});

describe.skipIf(chromium === undefined)("the page of a node", () => {
  let cluster: ProcessCluster;
  let browser: Browser;
  let directory: string;

  beforeAll(async () => {
    const args = ["--http", "127.0.0.1:0", "--snapshot-entries", "off", "--trailing-log-bytes", "0"];
    directory = await mkdtemp(join(tmpdir(), "cairn-test-"));
    cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], args);
    const { launch } = await import("puppeteer-core");
    browser = await launch({ executablePath: chromium!, args: ["--no-sandbox", "--disable-gpu"] });
  });

  afterAll(async () => {
    await browser?.close();
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  /** Opens the page of a node, and returns it when it shows the members. */
  async function open(id: string, width = 1_400): Promise<Page> {
    const { url } = await cluster.get(id).node.event("http");
    const page = await browser.newPage();
    await page.setViewport({ width, height: 900 });
    await page.goto(`${url}/`, { waitUntil: "domcontentloaded" });
    await page.waitForSelector("#members li");
    return page;
  }

  /** Waits until the page's text matches. */
  async function shows(page: Page, selector: string, pattern: RegExp): Promise<void> {
    const found = `new RegExp(${JSON.stringify(pattern.source)}).test(document.querySelector("${selector}")?.textContent ?? "")`;
    // By time: a page that is not in front draws no frames.
    await page.waitForFunction(found, { timeout: 30_000, polling: 100 });
  }

  test("shows a leader's end, a snapshot, its transfer and a silent member, while it all happens", async () => {
    const leader = await cluster.leader();
    const follower = (await cluster.followers())[0]!;
    const page = await open(follower.id);
    await shows(page, "#facts", new RegExp(`leader ?${leader.id}`));
    // A follower that lacks what is trimmed gets a snapshot when it is back.
    await cluster.put(new Map([["a", "1"]]));
    const other = (await cluster.followers()).find(({ id }) => id !== follower.id)!;
    await cluster.kill(other.id);
    await cluster.put(new Map([["b", "2"]]));
    for (const { admin } of cluster.running.values()) await admin.takeSnapshot({ keepLogBytes: 0n });
    await shows(page, "#snapshots", /requested/);
    await shows(page, "#timeline", /snapshot taken \(requested\)/);
    await shows(page, "#members", /no answer/);
    await page.click("#snapshot-actions button");
    await page.click("#confirm button[value=yes]");
    await shows(page, "#outcome", /nothing was applied since the snapshot at|took a snapshot at/);
    const leaderPage = await open(leader.id);
    await cluster.startAgain(other.id);
    await shows(leaderPage, "#timeline", new RegExp(`transfer to ${other.id}: installed`));
    await cluster.kill(leader.id);
    const next = await cluster.leader();
    await shows(page, "#timeline", new RegExp(`${next.id} leads`));
    await shows(page, "#facts", new RegExp(`leader ?${next.id}`));
    await shows(leaderPage, "#connection", /does not answer/);
    await leaderPage.close();
    await page.close();
    await cluster.startAgain(leader.id);
  });

  test.each([360, 1_400, 3_840])("fits a window that is %d pixels wide, and axe finds nothing", async (width) => {
    const { id } = await cluster.leader();
    const page = await open(id, width);
    expect(await page.evaluate('document.querySelector("#sign-in").checkVisibility()')).toBe(false);
    const overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
    expect(overflow).toBeLessThanOrEqual(0);
    await page.evaluate(readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
    for (const value of ["light", "dark"]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
      const found = await page.evaluate(async () => {
        const { violations } = await (globalThis as unknown as { axe: { run(): Promise<AxeResult> } }).axe.run();
        return violations.map((each) => `${each.id}: ${each.nodes.map(({ html }) => html).join(" ")}`);
      });
      expect(found, value).toEqual([]);
    }
    await page.close();
  });

  test("asks no other host, and reports no error", async () => {
    const { id } = await cluster.leader();
    const { url } = await cluster.get(id).node.event("http");
    const page = await browser.newPage();
    const requests: string[] = [];
    const errors: unknown[] = [];
    page.on("request", (request) => requests.push(request.url()));
    page.on("pageerror", (error) => errors.push(error));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(`${url}/`, { waitUntil: "domcontentloaded" });
    await page.waitForSelector("#members li");
    expect(requests.filter((asked) => !asked.startsWith(`${url}/`) && !asked.startsWith("data:"))).toEqual([]);
    expect(errors).toEqual([]);
    await page.close();
  });
});

interface AxeResult {
  readonly violations: readonly { readonly id: string; readonly nodes: readonly { readonly html: string }[] }[];
}
