// Opens the HTTP port of a member.

import type { KeyValueMachine } from "../machine/kv/key_value_machine.js";
import type { Logger } from "../system/logger.js";
import { browsable, shownKeys, shownLeases } from "./browse.js";
import { Feed } from "./feed/feed.js";
import { type HttpPage, HttpServer, send } from "./http_server.js";
import { Exporter } from "./metrics/exporter.js";
import type { Monitored } from "./monitored.js";
import { pageFiles } from "./page_files.js";
import { ProcessFigures } from "./process_figures.js";
import { readinessOf } from "./readiness.js";

const JSON_TYPE = "application/json; charset=utf-8";

export interface MonitorOptions {
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  /** Names by which a proxy reaches this server, besides addresses and names without a dot. */
  readonly hosts?: readonly string[] | undefined;
  /** The data directory. */
  readonly directory: string;
  /** Returns the member; undefined while it starts. */
  readonly monitored: () => Monitored | undefined;
  readonly logger: Logger;
}

/** Shows a member to its operators over HTTP: metrics, health, and a page. */
export class Monitor {
  private constructor(
    private readonly server: HttpServer,
    private readonly feed: Feed,
    private readonly figures: ProcessFigures,
  ) {}

  /**
   * Starts to serve.
   * @throws CairnError INVALID_ARGUMENT when it cannot listen on the address
   */
  static async start({ listen, hosts = [], directory, monitored, logger }: MonitorOptions): Promise<Monitor> {
    const figures = new ProcessFigures(directory);
    const browsing =
      (answer: (machine: KeyValueMachine, asked: URLSearchParams) => object): HttpPage =>
      (request, response) => {
        const machine = browsable(monitored()?.node.machine);
        const asked = new URL(request.url ?? "/", "http://node").searchParams;
        if (machine === undefined) send(response, 404, JSON_TYPE, '{"error":"this node shows no keys"}\n');
        else send(response, 200, JSON_TYPE, `${JSON.stringify(answer(machine, asked))}\n`);
      };
    const exporter = new Exporter(monitored, figures);
    const feed = new Feed(monitored, figures, {});
    const pages = new Map<string, HttpPage>([
      [
        "/metrics",
        async (_request, response) => {
          const { contentType, text } = await exporter.scrape();
          send(response, 200, contentType, text);
        },
      ],
      ...pageFiles(),
      ["/keys", browsing((machine, asked) => shownKeys(machine, bytesOf(asked, "prefix"), bytesOf(asked, "after")))],
      ["/leases", browsing((machine, asked) => shownLeases(machine, Number(asked.get("after") ?? 0)))],
      ["/feed", (_request, response) => feed.serve(response)],
      ["/healthz", (_request, response) => send(response, 200, JSON_TYPE, `${JSON.stringify({ alive: true })}\n`)],
      [
        "/readyz",
        (_request, response) => {
          const readiness = readinessOf(monitored()?.node);
          send(response, readiness.ready ? 200 : 503, JSON_TYPE, `${JSON.stringify(readiness)}\n`);
        },
      ],
    ]);
    try {
      const onError = (error: unknown) => logger.error({ err: error }, "an HTTP request failed");
      return new Monitor(await HttpServer.listen({ listen, hosts, pages, onError }), feed, figures);
    } catch (error) {
      feed.stop();
      figures.stop();
      throw error;
    }
  }

  /** host:port that it listens on, with the real port. */
  get address(): string {
    return this.server.address;
  }

  async stop(): Promise<void> {
    this.feed.stop();
    await this.server.stop();
    this.figures.stop();
  }
}

/** Returns bytes that a request names in base64url. */
function bytesOf(asked: URLSearchParams, name: string): Uint8Array {
  return Buffer.from(asked.get(name) ?? "", "base64url");
}
