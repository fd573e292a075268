import type { MemberEvent } from "../../daemon/events.js";

/** An event of a node's process, for its user. */
export type NodeEvent =
  | MemberEvent
  /** Operators are served at this URL. Reported once, before the node starts. */
  | { readonly kind: "http"; readonly url: string }
  /** Clients are served at this address, by so many ingress processes. Reported once. */
  | { readonly kind: "ingress"; readonly address: string; readonly processes: number };

/** Describes the node that an event is about. */
export interface EventContext {
  readonly node: string;
  readonly data: string;
  /** host:port of members that were given to join; none for a founder. */
  readonly join: readonly string[] | undefined;
  /** Neither --cluster nor --join was given. */
  readonly isAlone: boolean;
}

/** Tells whether an event belongs on standard error. */
export function isTrouble({ kind }: NodeEvent): boolean {
  return kind === "locked" || kind === "waiting" || kind === "lost" || kind === "removed";
}

/** Formats an event as a line of JSON. */
export function eventJson({ kind, ...facts }: NodeEvent, { node, data }: EventContext): string {
  if (!("clusterId" in facts)) return JSON.stringify({ event: kind, node, ...facts });
  const { clusterId, ...rest } = facts;
  return JSON.stringify({ event: kind, node, cluster: clusterId, ...rest, ...(kind === "listening" && { data }) });
}

/** Formats an event in words. */
export function eventText(event: NodeEvent, { node, data, join, isAlone }: EventContext): string {
  switch (event.kind) {
    case "listening": {
      const { address, clusterId } = event;
      if (clusterId !== "") return `node ${node} of cluster ${clusterId} listens on ${address}, data in ${data}`;
      return `node ${node} listens on ${address}, data in ${data}; it is new, and looks for its cluster`;
    }
    case "http":
      return `node ${node} shows itself on ${event.url}`;
    case "ingress": {
      const count = event.processes === 1 ? "1 ingress process" : `${event.processes} ingress processes`;
      return `node ${node} serves clients on ${event.address}, with ${count}`;
    }
    case "locked":
      return event.text;
    case "waiting": {
      const seconds = Math.round(event.ms / 1_000);
      const advice = event.reason.includes("to found the cluster")
        ? " If one of them will not start: remove it from --cluster on all nodes, and let it --join later."
        : "";
      return `node ${node} waits, for ${seconds} s now: ${event.reason}.${advice}`;
    }
    case "turned":
      return `node ${node} now belongs to cluster ${event.clusterId}`;
    case "founded": {
      const names = event.members.map(({ id }) => id).join(", ");
      const done = `node ${node} has founded cluster ${event.clusterId} with ${names}`;
      if (!isAlone) return done;
      return (
        `${done} alone, because neither --cluster nor --join was given. If ${node} was a member of a cluster before: stop it, remove ${data}, ` +
        "and start it with the command line of its first start."
      );
    }
    case "joined": {
      if (join === undefined)
        return `node ${node} is back in cluster ${event.clusterId} as a learner: it votes when it has caught up`;
      const promote = `cairn member promote ${node} --endpoints ${join.join(",")}`;
      return `node ${node} is a learner of cluster ${event.clusterId}. To let it vote: ${promote}`;
    }
    case "promoted":
      return `node ${node} is a voter of cluster ${event.clusterId}`;
    case "lost": {
      const { acknowledged, has } = event.lost;
      return (
        `node ${node} has acknowledged entries up to ${acknowledged}, and has entries up to ${has}: check its disk. ` +
        `It comes back as a new member; its old data is kept in ${event.aside}.`
      );
    }
    case "removed":
      return `node ${node} was removed from its cluster at index ${event.index}. Stop it; to bring it back, start it on an empty directory with --join.`;
  }
}
