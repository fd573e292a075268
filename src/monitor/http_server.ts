import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { isIP } from "node:net";
import { CairnError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import type { NodeTls } from "../rpc/security/node_tls.js";
import { listenAddressOf, listenAt } from "../system/listening.js";

/** Answers a request for one path. */
export type HttpPage = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

export interface HttpOptions {
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  /** Names by which a request may call this server, besides addresses and names without a dot. */
  readonly hosts: readonly string[];
  /** The node's certificates: the server speaks HTTPS with that for clients. */
  readonly security: NodeTls | undefined;
  /** The pages by path, for GET and HEAD. */
  readonly pages: ReadonlyMap<string, HttpPage>;
  /** The actions by path, for POST. */
  readonly actions: ReadonlyMap<string, HttpPage>;
  readonly onError: (error: unknown) => void;
}

const WORDS = { address: "HTTP address", failure: "cannot serve HTTP on" } as const;

/** Sent with every answer: a page may load nothing from elsewhere, and not be shown in a frame. */
const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
} as const;

/** A small HTTP server for operators: GET and HEAD of fixed paths, and POST of actions. */
export class HttpServer {
  private constructor(
    private readonly server: Server,
    /** host:port with the real port. */
    readonly address: string,
    private readonly unfollow: () => void,
  ) {}

  /**
   * Starts to listen.
   * @throws CairnError INVALID_ARGUMENT when it cannot listen on the address
   */
  static async listen(options: HttpOptions): Promise<HttpServer> {
    const at = listenAddressOf(options.listen, WORDS);
    const { security } = options;
    const common = {
      maxHeaderSize: limits.httpHeaderBytes,
      headersTimeout: limits.httpRequestMs,
      requestTimeout: limits.httpRequestMs,
    };
    const listener = (request: IncomingMessage, response: ServerResponse) => void answer(options, request, response);
    const secure = security && createSecureServer({ ...common, handshakeTimeout: limits.tlsHandshakeMs }, listener);
    const server: Server = secure ?? createServer(common, listener);
    const unfollow = security?.followServer((context) => secure?.setSecureContext(context));
    server.maxConnections = limits.httpConnections;
    const address = await listenAt(server, at, WORDS);
    server.on("error", options.onError);
    return new HttpServer(server, address, () => unfollow?.());
  }

  /** Ends all connections. */
  async stop(): Promise<void> {
    this.unfollow();
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }
}

/** Sends a whole answer. */
export function send(response: ServerResponse, status: number, contentType: string, body: string | Buffer): void {
  response.writeHead(status, { ...HEADERS, "content-type": contentType, "content-length": Buffer.byteLength(body) });
  response.end(body);
}

/** Returns the path of a request, without its query. */
export function pathOf({ url = "/" }: IncomingMessage): string {
  return url.split("?", 1)[0] ?? "/";
}

/** Returns the query of a request. */
export function queryOf({ url = "/" }: IncomingMessage): URLSearchParams {
  return new URLSearchParams(url.split("?")[1] ?? "");
}

/** Begins an answer without an end: a stream of events. */
export function beginEvents(response: ServerResponse): void {
  response.writeHead(200, { ...HEADERS, "content-type": "text/event-stream; charset=utf-8" });
}

async function answer(
  { hosts, pages, actions, onError }: HttpOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // A response that is cut off by its reader is no event for an operator.
  response.on("error", () => {});
  const refuse = (status: number, text: string) => send(response, status, "text/plain; charset=utf-8", `${text}\n`);
  if (!isOwnHost(request.headers.host, hosts)) {
    return refuse(403, "the Host of this request is no name of this node: --http-hosts names those that are");
  }
  const path = pathOf(request);
  const isAction = actions.has(path);
  const methods = isAction ? ["POST"] : ["GET", "HEAD"];
  if (!methods.includes(request.method ?? "")) return refuse(405, `only ${methods.join(" and ")}`);
  const page = isAction ? actions.get(path) : pages.get(path);
  if (page === undefined)
    return refuse(404, `nothing is at ${path.slice(0, 100)}; there are ${[...pages.keys()].join(", ")}`);
  try {
    await page(request, response);
  } catch (error) {
    const status = httpStatusOf(error);
    if (status === 500) onError(error);
    const text = status === 500 ? "the node could not answer; its log has the reason" : CairnError.from(error).text;
    if (response.headersSent) response.destroy();
    else refuse(status, text);
  }
}

/**
 * Whether a request names this server by an address, or by a name that no stranger's web page can
 * make its own: such a page may resolve its own name to a loopback address, and read what comes.
 */
function isOwnHost(host: string | undefined, hosts: readonly string[]): boolean {
  if (host === undefined || host === "") return false;
  const name = host
    .replace(/:\d+$/, "")
    .replace(/^\[(.*)\]$/, "$1")
    .toLowerCase();
  const isGiven = () => hosts.some((each) => each.toLowerCase() === name);
  return isIP(name) !== 0 || !name.includes(".") || isGiven();
}

/** Returns the HTTP status for an error of a request. */
function httpStatusOf(error: unknown): number {
  if (!(error instanceof CairnError)) return 500;
  switch (error.code) {
    case "UNAUTHENTICATED":
      return 401;
    case "PERMISSION_DENIED":
      return 403;
    case "INVALID_ARGUMENT":
    case "LIMIT_EXCEEDED":
      return 400;
    case "INTERNAL":
      return 500;
    case "STOPPED":
      return 503;
    default:
      return 409;
  }
}
