import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { Monitor } from "../../src/monitor/monitor.js";
import type { Monitored } from "../../src/monitor/monitored.js";
import { silentLogger } from "../../src/system/logger.js";
import { until, untilAsync } from "../support/conditions.js";
import { serve } from "../support/nodes/served_node.js";
import { monitorOf, shownLeader } from "./support.js";

/** Sends a request with a Host of its own, which fetch does not let callers set. */
async function statusWithHost(url: string, host: string): Promise<number | undefined> {
  const sent = request(`${url}/readyz`, { headers: { host } }).end();
  const [answer] = await once(sent, "response");
  answer.resume();
  return answer.statusCode;
}

describe("the HTTP port", () => {
  test("tells that a node is alive while it starts, and that it is not ready", async () => {
    const { get } = await monitorOf(() => undefined);
    expect((await get("/healthz")).status).toBe(200);
    const ready = await get("/readyz");
    expect(ready.status).toBe(503);
    expect(await ready.json()).toEqual({ ready: false, reasons: ["it is starting"] });
    expect((await get("/feed")).status).toBe(503);
    expect(await (await get("/metrics")).text()).toContain("# TYPE cairn_raft_term gauge");
  });

  test("tells that a leader is ready", async () => {
    const { get } = await shownLeader();
    const ready = await get("/readyz");
    expect(ready.status).toBe(200);
    expect(await ready.json()).toEqual({ ready: true, reasons: [] });
  });

  test("answers only requests that name it by an address, a short name or a name that was given", async () => {
    const { url } = await shownLeader({ hosts: ["cairn.example"] });
    for (const host of ["127.0.0.1:80", "[::1]:80", "localhost", "db1:7000", "cairn.example"]) {
      expect(await statusWithHost(url, host), host).toBe(200);
    }
    for (const host of ["evil.example", "127.0.0.1.evil.example"]) {
      expect([400, 403], host).toContain(await statusWithHost(url, host));
    }
  });

  test("takes only GET and HEAD, and names its pages to those who ask for another", async () => {
    const { get } = await shownLeader();
    expect((await get("/readyz", { method: "POST" })).status).toBe(405);
    expect((await get("/readyz", { method: "HEAD" })).status).toBe(200);
    const missing = await get("/nothing");
    expect(missing.status).toBe(404);
    expect(await missing.text()).toContain("/metrics");
  });

  test("forbids pages to load anything from elsewhere", async () => {
    const { get } = await shownLeader();
    const policy = (await get("/readyz")).headers.get("content-security-policy");
    expect(policy).toContain("default-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
  });

  test("says which address it cannot listen on", async () => {
    const { monitor } = await shownLeader();
    const options = { directory: ".", logger: silentLogger, monitored: () => undefined };
    await expect(Monitor.start({ ...options, listen: new URL(monitor.url).host })).rejects.toThrow(
      `cannot serve HTTP on ${new URL(monitor.url).host}: the address is in use`,
    );
    await expect(Monitor.start({ ...options, listen: "localhost:99999" })).rejects.toThrow(
      '"localhost:99999" must be host:port',
    );
  });
});

/** The events of a feed as they come. */
async function follow(get: (path: string, init?: RequestInit) => Promise<Response>, signal: AbortSignal) {
  const answer = await get("/feed", { signal });
  const events: { event: string; data: unknown }[] = [];
  const reading = (async () => {
    let text = "";
    for await (const chunk of answer.body!) {
      text += Buffer.from(chunk).toString();
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const [event, data] = text.slice(0, end).split("\n");
        events.push({ event: event!.slice("event: ".length), data: JSON.parse(data!.slice("data: ".length)) });
        text = text.slice(end + 2);
      }
    }
  })();
  reading.catch(() => {});
  return { answer, events };
}

describe("the feed of the page", () => {
  test("begins with the past, then tells the present and what happens", async () => {
    const { get, node } = await shownLeader();
    const over = new AbortController();
    const { answer, events } = await follow(get, over.signal);
    expect(answer.headers.get("content-type")).toContain("text/event-stream");
    await until(() => events.some(({ event }) => event === "present"), "the feed tells the present");
    expect(events[0]).toMatchObject({
      event: "hello",
      data: { node: node.id, timeline: [{ number: 1 }, { number: 2 }] },
    });
    const present = events.find(({ event }) => event === "present");
    expect(present).toMatchObject({ data: { leader: node.id, members: [{ id: node.id, role: "leader" }] } });
    await node.takeSnapshot({});
    await until(() => events.some(({ event }) => event === "happening"), "the feed tells of the snapshot");
    const happening = events.find(({ event }) => event === "happening");
    expect(happening).toMatchObject({ data: { kind: "snapshot", reason: "requested", number: 3 } });
    over.abort();
  });

  test("has room for limits.httpViewers pages, and for another when one has gone", async () => {
    const { get } = await shownLeader();
    const viewers = await Promise.all(
      Array.from({ length: limits.httpViewers }, async () => {
        const over = new AbortController();
        const answer = await get("/feed", { signal: over.signal });
        return { answer, over };
      }),
    );
    expect(viewers.every(({ answer }) => answer.status === 200)).toBe(true);
    const refused = await get("/feed");
    expect(refused.status).toBe(503);
    expect(await refused.text()).toContain("httpViewers");
    viewers[0]!.over.abort();
    await untilAsync(async () => {
      const over = new AbortController();
      const { status } = await get("/feed", { signal: over.signal });
      over.abort();
      return status === 200;
    }, "there is room for another page");
    for (const { over } of viewers) over.abort();
  });

  test("cuts a page off that does not read, and no other", async () => {
    const { get, url, node } = await shownLeader();
    const over = new AbortController();
    const { events } = await follow(get, over.signal);
    const { hostname, port } = new URL(url);
    const deaf = connect(Number(port), hostname).pause();
    onTestFinished(() => void deaf.destroy());
    deaf.write(`GET /feed HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`);
    const text = "w".repeat(100_000);
    // What its kernel takes, and the node's, comes before the limit.
    let isCutOff = false;
    deaf.on("close", () => {
      isCutOff = true;
    });
    await until(() => {
      node.measures.timeline.add({ kind: "warning", text });
      if (deaf.bytesRead === 0 && node.measures.timeline.entries.length > 300) deaf.resume();
      return isCutOff;
    }, "the page that did not read is cut off");
    const heard = events.length;
    node.measures.timeline.add({ kind: "cleared", text: "the end" });
    await until(() => events.slice(heard).some(({ event }) => event === "happening"), "the other one still hears");
    over.abort();
  });

  test("gives no place to a request that reads no events", async () => {
    const { get } = await shownLeader();
    for (let at = 0; at <= limits.httpViewers; at++) expect((await get("/feed", { method: "HEAD" })).status).toBe(200);
    const over = new AbortController();
    expect((await get("/feed", { signal: over.signal })).status).toBe(200);
    over.abort();
  });

  test("begins anew when another node takes the place of the one that is shown", async () => {
    const [first, second] = [await serve({ lead: true }), await serve({ lead: true })];
    let shown: Monitored = first;
    const { get } = await monitorOf(() => shown);
    const over = new AbortController();
    const { events } = await follow(get, over.signal);
    await until(() => events.some(({ event }) => event === "present"), "the first is shown");
    shown = second;
    await until(() => events.filter(({ event }) => event === "hello").length === 2, "the second is shown");
    expect(events.findLast(({ event }) => event === "hello")).toMatchObject({
      data: { cluster: second.node.clusterId },
    });
    over.abort();
  });

  test("survives a look that fails, and looks again", async () => {
    const served = await serve({ lead: true });
    let isBroken = false;
    const { get } = await monitorOf(() => {
      if (isBroken) throw new Error("the node is in between");
      return served;
    });
    const over = new AbortController();
    const { events } = await follow(get, over.signal);
    await until(() => events.some(({ event }) => event === "present"), "the feed tells the present");
    isBroken = true;
    await untilAsync(async () => (await get("/readyz")).status === 500, "requests fail");
    isBroken = false;
    const heard = events.length;
    await until(() => events.slice(heard).some(({ event }) => event === "present"), "the feed continues");
    over.abort();
  });
});
