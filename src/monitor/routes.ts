import type { IncomingMessage } from "node:http";
import { CairnError } from "../base/errors.js";
import { checkKeyStart } from "../base/key_checks.js";
import { browsable, shownKeys, shownLeases } from "./browse.js";
import type { Feed } from "./feed/feed.js";
import type { HttpGate } from "./gate.js";
import { type HttpPage, queryOf, send } from "./http_server.js";
import type { Exporter } from "./metrics/exporter.js";
import type { Monitored } from "./monitored.js";
import { pageFiles } from "./page_files.js";
import { readinessOf } from "./readiness.js";
import { RecentAnswers } from "./recent_answers.js";

const JSON_TYPE = "application/json; charset=utf-8";

/** The parts that answer requests. */
export interface MonitorParts {
  readonly monitored: () => Monitored | undefined;
  readonly exporter: Exporter;
  readonly feed: Feed;
  readonly gate: HttpGate;
}

/** Returns the pages of the HTTP port by path. The page's files and health are for everybody. */
export function routesOf({ monitored, exporter, feed, gate }: MonitorParts): ReadonlyMap<string, HttpPage> {
  const recent = new RecentAnswers();
  const metrics: HttpPage = async (request, response) => {
    gate.check(request, "known");
    const { contentType, text } = await exporter.scrape();
    send(response, 200, contentType, text);
  };
  const keys: HttpPage = (request, response) => {
    const [prefix, after] = [bytesIn(request, "prefix"), bytesIn(request, "after")];
    gate.check(request, { readsPrefix: prefix });
    const machine = browsable(monitored()?.node.machine);
    const asked = `keys ${toHex(prefix)} ${toHex(after)}`;
    answerText(response, machine && recent.get(asked, () => JSON.stringify(shownKeys(machine, prefix, after))));
  };
  const leases: HttpPage = (request, response) => {
    const after = Number(queryOf(request).get("after") ?? 0);
    gate.check(request, "admin");
    const machine = browsable(monitored()?.node.machine);
    if (!Number.isSafeInteger(after) || after < 0)
      throw new CairnError("INVALID_ARGUMENT", "after must be a lease's id");
    const asked = `leases ${after}`;
    answerText(response, machine && recent.get(asked, () => JSON.stringify(shownLeases(machine, after))));
  };
  const feeding: HttpPage = (request, response) => {
    const mayStay = gate.check(request, "known");
    feed.serve(response, { mayStay, mayAct: gate.mayAct(request) });
  };
  const ready: HttpPage = (_request, response) => {
    const readiness = readinessOf(monitored()?.node);
    send(response, readiness.ready ? 200 : 503, JSON_TYPE, `${JSON.stringify(readiness)}\n`);
  };
  return new Map<string, HttpPage>([
    ...pageFiles(),
    ["/metrics", metrics],
    ["/healthz", (_request, response) => answerText(response, '{"alive":true}')],
    ["/readyz", ready],
    ["/feed", feeding],
    ["/keys", keys],
    ["/leases", leases],
  ]);
}

/** Sends an answer in JSON; `undefined` for a node without keys, or one that is starting. */
function answerText(response: Parameters<HttpPage>[1], answer: string | undefined): void {
  if (answer === undefined) send(response, 404, JSON_TYPE, '{"error":"this node shows no keys"}\n');
  else send(response, 200, JSON_TYPE, `${answer}\n`);
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** Returns bytes that a request names in base64url. @throws CairnError LIMIT_EXCEEDED */
function bytesIn(request: IncomingMessage, name: "prefix" | "after"): Uint8Array {
  const bytes = Buffer.from(queryOf(request).get(name) ?? "", "base64url");
  checkKeyStart(bytes, name);
  return bytes;
}
