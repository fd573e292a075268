import { once } from "node:events";
import { request } from "node:http";
import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { Monitor } from "../../src/monitor/monitor.js";
import { silentLogger } from "../../src/system/logger.js";
import { until, untilAsync } from "../support/conditions.js";
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
});
