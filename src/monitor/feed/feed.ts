import type { ServerResponse } from "node:http";
import { limits } from "../../base/limits.js";
import { version } from "../../base/version.js";
import type { MemberCredentials } from "../../rpc/security/member_credentials.js";
import { beginEvents, send } from "../http_server.js";
import { type Monitored, type MonitoredNode, warningsOf } from "../monitored.js";
import type { ProcessFigures } from "../process_figures.js";
import { MembersView } from "./members.js";
import { POINT_MS, Sampler } from "./sampler.js";
import type { Hello, Present } from "./shown.js";
import { snapshotsOf } from "./snapshots.js";
import { TransfersView } from "./transfers.js";

/** Time between two looks while somebody watches, in ms. */
const LOOK_MS = 1_000;

/** The rights of a page's user. */
export interface ViewerRights {
  /** Returns whether the page may still see this. */
  readonly mayStay: () => boolean;
  /** Whether its user may carry out actions; those of a page that lies are refused all the same. */
  readonly mayAct: boolean;
}

/**
 * Tells the pages of a node what happens: one stream of events each, all made once. Without a page
 * it only keeps the points of the charts.
 */
export class Feed {
  readonly #sampler: Sampler;
  readonly #members: MembersView;
  readonly #transfers = new TransfersView();
  readonly #viewers = new Map<ServerResponse, ViewerRights>();
  readonly #sampling: NodeJS.Timeout;
  #looking: NodeJS.Timeout | undefined;
  #isLooking = false;
  /** Message of the last look, for a page that comes before the next; undefined without pages. */
  #latest: string | undefined;
  /** The node whose timeline is followed. */
  #followed: MonitoredNode | undefined;
  #unfollow: (() => void) | undefined;

  constructor(
    private readonly monitored: () => Monitored | undefined,
    figures: ProcessFigures,
    members: MemberCredentials | undefined,
    private readonly onError: (error: unknown) => void,
  ) {
    this.#sampler = new Sampler(figures);
    this.#members = new MembersView(members);
    this.#sampling = setInterval(() => this.#sample(), POINT_MS);
    this.#sampling.unref();
  }

  /** Serves one page until it goes away, or `mayStay` says that it must. */
  readonly serve = (response: ServerResponse, rights: ViewerRights): void => {
    const shown = this.monitored();
    const isFull = this.#viewers.size >= limits.httpViewers;
    if (shown === undefined || isFull) {
      const full = `${limits.httpViewers} pages follow this node (limit httpViewers): close one`;
      send(response, 503, "text/plain; charset=utf-8", `${isFull ? full : "the node is starting"}\n`);
      return;
    }
    beginEvents(response);
    // A caller of HEAD reads no events, and would hold its place for nothing.
    if (response.req.method === "HEAD") return void response.end();
    this.#follow(shown.node);
    this.#viewers.set(response, rights);
    response.on("close", () => this.#left(response));
    response.write(message("hello", this.#hello(shown.node, rights)));
    // A crowd that comes at once must not ask the members once for each.
    if (this.#latest !== undefined) response.write(this.#latest);
    else void this.#look();
    this.#looking ??= setInterval(() => void this.#look(), LOOK_MS);
  };

  stop(): void {
    clearInterval(this.#sampling);
    clearInterval(this.#looking);
    this.#unfollow?.();
    for (const viewer of this.#viewers.keys()) viewer.end();
    this.#members.close();
  }

  #hello(node: MonitoredNode, { mayAct }: ViewerRights): Hello {
    const { id, clusterId: cluster, measures } = node;
    return { node: id, cluster, version, mayAct, points: this.#sampler.points, timeline: measures.timeline.entries };
  }

  #left(response: ServerResponse): void {
    this.#viewers.delete(response);
    if (this.#viewers.size > 0) return;
    clearInterval(this.#looking);
    this.#looking = undefined;
    this.#latest = undefined;
  }

  /** Never throws: nobody would catch it. */
  #sample(): void {
    try {
      const shown = this.monitored();
      const point = shown && this.#sampler.sample(shown);
      if (point !== undefined) this.#tell(message("point", point));
    } catch (error) {
      this.onError(error);
    }
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      await this.#lookAt(this.monitored());
    } catch (error) {
      this.onError(error);
    } finally {
      this.#isLooking = false;
    }
  }

  async #lookAt(shown: Monitored | undefined): Promise<void> {
    if (shown === undefined) return;
    const { node, server, peerAddresses } = shown;
    this.#follow(node);
    for (const [viewer, { mayStay }] of this.#viewers) if (!mayStay()) viewer.end();
    await this.#members.look(node, peerAddresses);
    const present: Present = {
      unixMs: Date.now(),
      leader: node.raft.leader ?? "",
      term: node.raft.term,
      members: this.#members.members(node),
      snapshots: await snapshotsOf(node),
      transfers: this.#transfers.of(node, performance.now()),
      warnings: warningsOf(shown),
      held: server.holdings,
    };
    if (this.#viewers.size === 0) return;
    this.#latest = message("present", present);
    this.#tell(this.#latest);
  }

  /** Follows the timeline of the present node; the pages begin anew when it is another one. */
  #follow(node: MonitoredNode): void {
    if (this.#followed === node) return;
    this.#followed = node;
    this.#unfollow?.();
    this.#unfollow = node.measures.timeline.follow((entry) => this.#tell(message("happening", entry)));
    for (const [viewer, rights] of this.#viewers) write(viewer, message("hello", this.#hello(node, rights)));
  }

  #tell(text: string): void {
    for (const viewer of this.#viewers.keys()) write(viewer, text);
  }
}

function message(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** A page that does not read gets nothing more, and comes again when it wakes up. */
function write(viewer: ServerResponse, text: string): void {
  if (viewer.writableLength > limits.httpViewerBytes) viewer.destroy();
  else if (!viewer.writableEnded) viewer.write(text);
}
