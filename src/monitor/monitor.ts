// Opens the HTTP port of a member.

import { checkExposure } from "../base/addresses.js";
import type { MemberCredentials } from "../rpc/security/member_credentials.js";
import type { NodeTls } from "../rpc/security/node_tls.js";
import type { AccessControl } from "../server/access/access_control.js";
import { warnOfExposure } from "../server/node_security.js";
import type { Logger } from "../system/logger.js";
import { actionPages } from "./actions.js";
import { Feed } from "./feed/feed.js";
import { HttpGate } from "./gate.js";
import { HttpServer } from "./http_server.js";
import { Exporter } from "./metrics/exporter.js";
import type { Monitored } from "./monitored.js";
import { ProcessFigures } from "./process_figures.js";
import { routesOf } from "./routes.js";

export interface MonitorOptions {
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  /** Names by which a proxy reaches this server, besides addresses and names without a dot. */
  readonly hosts?: readonly string[] | undefined;
  /** The data directory. */
  readonly directory: string;
  /** Returns the member; undefined while it starts. */
  readonly monitored: () => Monitored | undefined;
  /** The node's certificates: the port speaks HTTPS. */
  readonly security?: NodeTls | undefined;
  /** Allows an address other than a loopback address without TLS. Default false. */
  readonly insecure?: boolean | undefined;
  /** The rules by which requests are judged. Default: everybody may see everything. */
  readonly access?: AccessControl | undefined;
  /** Credentials for questions to other members. */
  readonly members?: MemberCredentials | undefined;
  readonly logger: Logger;
}

/** Shows a member to its operators over HTTP: metrics, health, and a page. */
export class Monitor {
  private constructor(
    private readonly server: HttpServer,
    /** `http` or `https`. */
    private readonly scheme: string,
    private readonly feed: Feed,
    private readonly figures: ProcessFigures,
  ) {}

  /**
   * Starts to serve.
   * @throws CairnError INVALID_ARGUMENT when it cannot listen on the address
   */
  static async start(options: MonitorOptions): Promise<Monitor> {
    const { listen, hosts = [], directory, monitored, security, insecure = false, access, members, logger } = options;
    checkExposure(listen, { tls: security !== undefined, insecure });
    const figures = new ProcessFigures(directory);
    const onError = (error: unknown) => logger.error({ err: error }, "an HTTP request failed");
    const feed = new Feed(monitored, figures, members, onError);
    const exporter = new Exporter(monitored, figures);
    const gate = new HttpGate(access);
    const pages = routesOf({ monitored, exporter, feed, gate });
    const actions = actionPages(() => monitored()?.node, gate);
    try {
      const server = await HttpServer.listen({ listen, hosts, security, pages, actions, onError });
      if (security === undefined) warnOfExposure(listen, logger);
      return new Monitor(server, security === undefined ? "http" : "https", feed, figures);
    } catch (error) {
      feed.stop();
      figures.stop();
      throw error;
    }
  }

  /** URL with the address that it listens on, with the real port, without a path. */
  get url(): string {
    return `${this.scheme}://${this.server.address}`;
  }

  async stop(): Promise<void> {
    this.feed.stop();
    await this.server.stop();
    this.figures.stop();
  }
}
