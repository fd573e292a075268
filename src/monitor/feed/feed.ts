import { stat } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { limits } from "../../base/limits.js";
import { version } from "../../base/version.js";
import type { MemberCredentials } from "../../rpc/security/member_credentials.js";
import { transfersOf } from "../../server/admin/admin_transfers.js";
import { beginEvents, send } from "../http_server.js";
import type { Monitored, MonitoredNode } from "../monitored.js";
import type { ProcessFigures } from "../process_figures.js";
import { MembersView } from "./members.js";
import { POINT_MS, Sampler } from "./sampler.js";
import type { Hello, Present, ShownSnapshot, ShownTransfer } from "./shown.js";

/** Time between two looks while somebody watches, in ms. */
const LOOK_MS = 1_000;

/**
 * Tells the pages of a node what happens: one stream of events each, all made once. Without a page
 * it only keeps the points of the charts.
 */
export class Feed {
  readonly #sampler: Sampler;
  readonly #members: MembersView;
  /** The pages, each with a check whether it may still see this. */
  readonly #viewers = new Map<ServerResponse, () => boolean>();
  readonly #sampling: NodeJS.Timeout;
  #looking: NodeJS.Timeout | undefined;
  /** The node whose timeline is followed. */
  #followed: MonitoredNode | undefined;
  #unfollow: (() => void) | undefined;

  constructor(
    private readonly monitored: () => Monitored | undefined,
    figures: ProcessFigures,
    members: MemberCredentials | undefined,
  ) {
    this.#sampler = new Sampler(figures);
    this.#members = new MembersView(members);
    this.#sampling = setInterval(() => this.#sample(), POINT_MS);
    this.#sampling.unref();
  }

  /** Serves one page until it goes away, or `mayStay` says that it must. */
  readonly serve = (response: ServerResponse, mayStay: () => boolean): void => {
    const shown = this.monitored();
    const isFull = this.#viewers.size >= limits.httpViewers;
    if (shown === undefined || isFull) {
      const full = `${limits.httpViewers} pages follow this node (limit httpViewers): close one`;
      send(response, 503, "text/plain; charset=utf-8", `${isFull ? full : "the node is starting"}\n`);
      return;
    }
    beginEvents(response);
    this.#viewers.set(response, mayStay);
    response.on("close", () => this.#left(response));
    this.#follow(shown.node);
    const hello: Hello = {
      node: shown.node.id,
      cluster: shown.node.clusterId,
      version,
      points: this.#sampler.points,
      timeline: shown.node.measures.timeline.entries,
    };
    response.write(message("hello", hello));
    void this.#look();
    this.#looking ??= setInterval(() => void this.#look(), LOOK_MS);
  };

  stop(): void {
    clearInterval(this.#sampling);
    clearInterval(this.#looking);
    this.#unfollow?.();
    for (const viewer of this.#viewers.keys()) viewer.end();
    this.#members.close();
  }

  #left(response: ServerResponse): void {
    this.#viewers.delete(response);
    if (this.#viewers.size > 0) return;
    clearInterval(this.#looking);
    this.#looking = undefined;
  }

  #sample(): void {
    const shown = this.monitored();
    const point = shown && this.#sampler.sample(shown, Date.now());
    if (point !== undefined) this.#tell("point", point);
  }

  async #look(): Promise<void> {
    const shown = this.monitored();
    if (shown === undefined) return;
    const { node, server } = shown;
    this.#follow(node);
    for (const [viewer, mayStay] of this.#viewers) if (!mayStay()) viewer.end();
    await this.#members.look(node);
    const present: Present = {
      unixMs: Date.now(),
      leader: node.raft.leader ?? "",
      term: node.raft.term,
      members: this.#members.members(node),
      snapshots: await snapshotsOf(node),
      transfers: transfersShown(node),
      warnings: [...node.fitness.warnings, ...node.snapshotting.warnings, ...node.protocol.warnings],
      held: server.holdings,
    };
    this.#tell("present", present);
  }

  /** Follows the timeline of the present node. */
  #follow(node: MonitoredNode): void {
    if (this.#followed === node) return;
    this.#followed = node;
    this.#unfollow?.();
    this.#unfollow = node.measures.timeline.follow((entry) => this.#tell("happening", entry));
  }

  #tell(event: string, data: unknown): void {
    if (this.#viewers.size === 0) return;
    const text = message(event, data);
    for (const viewer of this.#viewers.keys()) {
      // A page that does not read gets nothing more, and comes again when it wakes up.
      if (viewer.writableLength > limits.httpViewerBytes) viewer.destroy();
      else viewer.write(text);
    }
  }
}

function message(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

async function snapshotsOf({ snapshots, snapshotting }: MonitoredNode): Promise<ShownSnapshot[]> {
  const { last } = snapshotting;
  return Promise.all(
    snapshots.list().map(async ({ index, fileBytes: bytes, path }) => {
      const found = await stat(path).catch(() => undefined);
      const reason = last?.index === index ? last.reason : undefined;
      return { index, bytes, unixMs: Math.round(found?.mtimeMs ?? 0), reason };
    }),
  );
}

function transfersShown(node: MonitoredNode): ShownTransfer[] {
  return transfersOf(node).map(({ id, peerId, sending, index, totalBytes, doneBytes, bytesPerSecond }) => ({
    id: id ?? "",
    peer: peerId ?? "",
    direction: sending === true ? "out" : "in",
    index: Number(index),
    totalBytes: Number(totalBytes),
    doneBytes: Number(doneBytes),
    bytesPerSecond: Number(bytesPerSecond ?? 0),
  }));
}
