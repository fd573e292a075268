import { once } from "node:events";
import { request } from "node:https";
import { describe, expect, onTestFinished, test } from "vitest";
import { NodeTls } from "../../src/rpc/security/node_tls.js";
import { bearer } from "../../src/server/access/tokens.js";
import { TestAuthority } from "../support/certificates/authority.js";
import { writeNodeFiles } from "../support/certificates/node_files.js";
import { until } from "../support/conditions.js";
import { replaceFile } from "../support/disk/replace_file.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { accessText, serveGuarded, testCaller } from "../support/nodes/guarded.js";
import { monitorOf, shownLeader } from "./support.js";

const operator = testCaller("ops", { role: "admin" });
const reader = testCaller("app", { role: "reader", prefixes: ["app/"] });

/** The monitor of a node with an access file. */
async function guardedMonitor() {
  const guarded = await serveGuarded([operator, reader]);
  const { get } = await monitorOf(() => guarded, { access: guarded.access });
  const status = async (path: string, token?: string) => {
    const answer = await get(path, token === undefined ? {} : { headers: { authorization: bearer(token) } });
    await answer.body?.cancel();
    return answer.status;
  };
  return { ...guarded, get, status };
}

describe("an access file guards the HTTP port", () => {
  test("whose health and page's files are open, and whose metrics want a caller", async () => {
    const { status } = await guardedMonitor();
    expect(await status("/healthz")).toBe(200);
    expect(await status("/readyz")).toBe(200);
    for (const path of ["/metrics", "/feed", "/keys", "/leases"]) {
      expect(await status(path), path).toBe(401);
      expect(await status(path, "cairn_wrong"), path).toBe(401);
    }
    expect(await status("/metrics", reader.token)).toBe(200);
    expect(await status("/metrics", operator.token)).toBe(200);
  });

  test("whose keys are those that the caller may read, and whose leases are an admin's", async () => {
    const { status } = await guardedMonitor();
    const prefix = (text: string) => `/keys?prefix=${Buffer.from(text).toString("base64url")}`;
    expect(await status(prefix("app/"), reader.token)).toBe(200);
    expect(await status(prefix("app/x"), reader.token)).toBe(200);
    expect(await status(prefix("ap"), reader.token)).toBe(403);
    expect(await status("/keys", reader.token)).toBe(403);
    expect(await status("/keys", operator.token)).toBe(403);
    expect(await status("/leases", reader.token)).toBe(403);
    expect(await status("/leases", operator.token)).toBe(200);
  });

  test("and tells a page whether its user may act", async () => {
    const { get } = await guardedMonitor();
    const mayAct = async (token: string) => {
      const over = new AbortController();
      const { body } = await get("/feed", { headers: { authorization: bearer(token) }, signal: over.signal });
      const { value } = await body!.getReader().read();
      over.abort();
      return /"mayAct":(true|false)/.exec(Buffer.from(value!).toString())?.[1];
    };
    expect(await mayAct(operator.token)).toBe("true");
    expect(await mayAct(reader.token)).toBe("false");
  });

  test("and ends the page's events of a caller that is taken out of it", async () => {
    const { get, file, access } = await guardedMonitor();
    const { body } = await get("/feed", { headers: { authorization: bearer(reader.token) } });
    let isOver = false;
    const reading = (async () => {
      for await (const _ of body!);
      isOver = true;
    })();
    const before = access.generation;
    await replaceFile(file, accessText([operator]));
    await until(() => access.generation > before, "the new rules are in force");
    await until(() => isOver, "the events have ended");
    await reading;
  });
});

test("the HTTP port of a node with a certificate speaks HTTPS with it, and with its successor", async () => {
  const directory = await temporaryDirectory();
  const [clients, peers] = [await TestAuthority.create("clients"), await TestAuthority.create("peers")];
  const issue = () => peers.issue({ commonName: "n1", uris: ["cairn://c1/node/n1"], dns: ["localhost"] });
  const files = await writeNodeFiles(directory, await issue(), { clients, peers });
  const security = await NodeTls.open(files);
  onTestFinished(() => security.close());
  const { url } = await shownLeader({ security });
  expect(url).toMatch(/^https:/);
  const serial = async () => {
    const sent = request(`${url}/healthz`, { agent: false, rejectUnauthorized: false }).end();
    const [answer] = await once(sent, "response");
    const found = answer.socket.getPeerCertificate().serialNumber as string;
    answer.resume();
    await once(answer, "end");
    expect(answer.statusCode).toBe(200);
    return found;
  };
  const first = await serial();
  const next = await issue();
  await replaceFile(files.key, next.key);
  await replaceFile(files.certificate, next.certificate);
  await security.look();
  expect(await serial()).not.toBe(first);
});

test("the HTTP port is not opened to the network without TLS, unless that is said in so many words", async () => {
  await expect(monitorOf(() => undefined, { listen: "0.0.0.0:0" })).rejects.toThrow(/--insecure/);
});

describe("an action of the page", () => {
  const post = (url: string, token?: string, headers: Record<string, string> = { "x-cairn-action": "1" }) =>
    fetch(url, {
      method: "POST",
      headers: { ...headers, ...(token !== undefined && { authorization: bearer(token) }) },
    });

  test("is for admins, and is noted in the audit", async () => {
    const guarded = await serveGuarded([operator, reader]);
    const { url } = await monitorOf(() => guarded, { access: guarded.access });
    expect((await post(`${url}/actions/snapshot`)).status).toBe(401);
    expect((await post(`${url}/actions/snapshot`, reader.token)).status).toBe(403);
    const done = await post(`${url}/actions/snapshot`, operator.token);
    expect(done.status).toBe(200);
    expect(await done.text()).toMatch(/^took a snapshot at \d+\n$/);
    expect(guarded.node.snapshots.list()).toHaveLength(1);
    const audited = guarded.lines.filter(({ audit }) => audit === "admin");
    expect(audited).toMatchObject([{ caller: "ops", method: "/actions/snapshot", code: "OK" }]);
  });

  test("is not taken from a page of a stranger, nor by GET", async () => {
    const { url, node } = await shownLeader();
    expect((await post(`${url}/actions/snapshot`, undefined, {})).status).toBe(400);
    expect((await fetch(`${url}/actions/snapshot`)).status).toBe(405);
    expect(node.snapshots.list()).toEqual([]);
  });

  test("that cannot be done says why", async () => {
    const { url } = await shownLeader();
    const lead = await post(`${url}/actions/lead?about=n9`);
    expect(lead.status).toBe(409);
    expect(await lead.text()).toContain("n9");
    const cancel = await post(`${url}/actions/cancel?about=nothing`);
    expect(cancel.status).toBe(409);
    expect(await cancel.text()).toContain('there is no transfer "nothing"');
  });
});
