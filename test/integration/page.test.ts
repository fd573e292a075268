import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findChromium } from "../support/processes/chromium.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { inRepository } from "../support/processes/processes.js";
import { TcpProxy } from "../support/processes/tcp_proxy.js";

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
  let link: TcpProxy;

  beforeAll(async () => {
    const args = ["--http", "127.0.0.1:0", "--snapshot-entries", "off", "--trailing-log-bytes", "0"];
    args.push("--snapshot-bandwidth", "150000");
    directory = await mkdtemp(join(tmpdir(), "cairn-test-"));
    cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], args);
    const { launch } = await import("puppeteer-core");
    browser = await launch({ executablePath: chromium!, args: ["--no-sandbox", "--disable-gpu"] });
  });

  afterAll(async () => {
    await browser?.close();
    await cluster?.close();
    await link?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  /**
   * Has one node lead that reaches one of the others through {@link link} alone. Returns the two.
   */
  async function behindLink(): Promise<[leads: string, follows: string]> {
    const [first, second] = await cluster.followers();
    const [leads, follows] = [first!.id, second!.id];
    const { address } = second!;
    link = await TcpProxy.start(() => address);
    await cluster.kill(leads);
    await cluster.startFounder(leads, ["--peer-addresses", `${follows}=${link.address}`]);
    await cluster.leaderOfAll();
    await cluster.withLeader(({ admin }) => admin.transferLeadership({ nodeId: leads }, { timeoutMs: 10_000 }));
    expect((await cluster.leaderOfAll()).id).toBe(leads);
    return [leads, follows];
  }

  /** A viewer that asks for events and reads none. */
  async function deafViewer(id: string): Promise<Socket> {
    const { hostname, port } = new URL(`${(await cluster.get(id).node.event("http")).url}`);
    const socket = connect(Number(port), hostname).pause();
    socket.write(`GET /feed HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`);
    return socket;
  }

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

  test("shows a cut link between members, a transfer at both ends, and its end by a click, while viewers are lost", async () => {
    const [leads, follows] = await behindLink();
    const page = await open(leads);
    const lost = await deafViewer(leads);
    const gone = await open(leads);
    await shows(page, "#members", /match [\d,]+, replicate/);
    link.set({ cut: true });
    await shows(page, "#members", /it has not answered the leader for/);
    await gone.close();
    link.set({});
    await shows(page, "#members", /^(?!.*it has not answered)/);
    // Too much for the bandwidth to be over before anybody can look.
    await cluster.kill(follows);
    await cluster.put(
      new Map(Array.from({ length: 8 }, (_, at) => [`large/${at}`, randomBytes(300_000).toString("hex")])),
    );
    await cluster.get(leads).admin.takeSnapshot({ keepLogBytes: 0n });
    await cluster.startAgain(follows);
    await shows(page, "#transfers", new RegExp(`to ${follows}: .* of .*/s, .* left`));
    const other = await open(follows);
    await shows(other, "#transfers", new RegExp(`from ${leads}: .* of .*/s, .* left`));
    // The button stays where it is: what a keyboard has reached does not go away.
    await page.bringToFront();
    await page.focus("#transfers button");
    await page.waitForFunction(
      `performance.now() > ${await page.evaluate("performance.now() + 2500")} && document.activeElement.textContent === "Cancel"`,
      { timeout: 30_000, polling: 100 },
    );
    await page.keyboard.press("Enter");
    await page.click("#confirm button[value=yes]");
    await shows(page, "#outcome", /the transfer is ended/);
    await shows(page, "#timeline", new RegExp(`transfer to ${follows}: failed`));
    await shows(page, "#snapshots", /requested/);
    lost.destroy();
    await Promise.all([page.close(), other.close()]);
  }, 180_000);

  test("comes back by itself when its link was cut without a word", async () => {
    const { id } = await cluster.leader();
    const target = new URL(`${(await cluster.get(id).node.event("http")).url}`);
    const cutOff: (() => void)[] = [];
    // Its near end stays open, as if the far machine had lost its power.
    const proxy = createServer((near) => {
      const far = connect(Number(target.port), target.hostname);
      near.pipe(far).on("error", () => {});
      far.pipe(near, { end: false }).on("error", () => {});
      cutOff.push(() => {
        near.unpipe(far);
        far.unpipe(near);
        far.destroy();
      });
    }).listen(0, "127.0.0.1");
    await once(proxy, "listening");
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(proxy.address() as AddressInfo).port}/`, { waitUntil: "domcontentloaded" });
    await page.waitForSelector("#members li");
    await shows(page, "#connection", /^$/);
    for (const cut of cutOff) cut();
    await shows(page, "#connection", /does not answer/);
    await shows(page, "#connection", /^$/);
    await page.close();
    proxy.close();
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
