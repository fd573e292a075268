import type { WatchRequest } from "../../../gen/cairn/v1/kv_pb.js";
import { WatchResponseSchema } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../base/errors.js";
import { checkKey, checkKeyStart, problemError } from "../../base/key_checks.js";
import { keyName } from "../../base/key_name.js";
import { limits } from "../../base/limits.js";
import { boundsOf, problemOfSpan } from "../../machine/kv/txn/key_span.js";
import { refusal } from "../../node/requests/refusals.js";
import type { CallContext } from "../../rpc/call_context.js";
import { type EncodedMessage, encodeMessage } from "../../rpc/codec.js";
import { toIndex } from "../../rpc/message_counters.js";
import { systemClock } from "../../system/clock.js";
import { requireKey, requirePrefix, requireSpan } from "../access/checks.js";
import type { ServedNode } from "../served_node.js";
import { WatchHub } from "./hub.js";
import type { Watch } from "./watch.js";
import type { WatchTarget } from "./watch_group.js";
import { WatchStream } from "./watch_stream.js";
import type { WatchHost } from "./watched_node.js";

/** A node whose watches are served. */
export type WatchServingNode = WatchHost & Pick<ServedNode, "id" | "clusterId" | "raft">;

/** Serves the Watch streams of a node. */
export class Watches<Header extends object> {
  readonly #hub: WatchHub;

  /** `headerNow` returns the header of an answer. */
  constructor(
    private readonly node: WatchServingNode,
    private readonly headerNow: () => Header,
  ) {
    this.#hub = new WatchHub(node, systemClock);
  }

  /** Number of watches under way. */
  get count(): number {
    return this.#hub.size;
  }

  /**
   * Answers one watch until its caller ends it, or an error does.
   * @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED, PERMISSION_DENIED, WRONG_CLUSTER, BUSY,
   * STOPPED, OUT_OF_RANGE; NOT_LEADER when this node takes no part in its cluster: another member
   * serves the watch
   */
  serve(request: WatchRequest, context: CallContext): AsyncIterable<EncodedMessage> {
    this.#checkTakesPart();
    this.#checkCluster(request);
    const { previous, noPuts, noDeletes } = request;
    const wish = {
      target: targetOf(request),
      filter: { previous, noPuts, noDeletes },
      progressMs: progressOf(request),
    };
    // All keys that may change are the caller's to read, so each event is, until the rules change.
    context.keepChecking(() => requireTarget(context, request));
    const start = this.#hub.firstIndex(toIndex(request.startIndex, "start_index"));
    let watch: Watch | undefined;
    const stream = new WatchStream(() => {
      if (watch !== undefined) this.#hub.remove(watch);
    }, context.answers);
    const first = { header: this.headerNow(), through: BigInt(start - 1) };
    stream.send(encodeMessage(WatchResponseSchema, first));
    if (!context.cancel.aborted) watch = this.#hub.add({ ...wish, start }, stream);
    return stream;
  }

  stop(): void {
    this.#hub.stop(new CairnError("STOPPED", "the node is stopping"));
  }

  /**
   * A node that is new, was removed or has lost data would tell of nothing, or of another cluster.
   */
  #checkTakesPart(): void {
    const { id, raft } = this.node;
    const isNew = raft.membership.members.length === 0;
    if (isNew || raft.lost !== undefined || raft.removedAt !== undefined) throw refusal("not_leader", id, raft);
  }

  #checkCluster({ clusterId }: WatchRequest): void {
    if (clusterId === "" || clusterId === this.node.clusterId) return;
    const text = `cluster_id is ${JSON.stringify(clusterId)}, but this node belongs to ${this.node.clusterId}`;
    throw new CairnError("WRONG_CLUSTER", text);
  }
}

/** @throws CairnError PERMISSION_DENIED */
function requireTarget(context: CallContext, { key, prefix, keys }: WatchRequest): void {
  if (key.byteLength > 0) requireKey(context, "reader", key);
  else if (keys !== undefined) requireSpan(context, "reader", keys);
  else requirePrefix(context, "reader", prefix);
}

function targetOf({ key, prefix, keys }: WatchRequest): WatchTarget {
  const given = [key.byteLength > 0, prefix.byteLength > 0, keys !== undefined].filter((isGiven) => isGiven);
  if (given.length > 1) {
    throw new CairnError("INVALID_ARGUMENT", "give one of key, prefix and keys, or none for all keys");
  }
  if (key.byteLength > 0) {
    checkKey(key);
    return { type: "key", key: keyName(key) };
  }
  if (keys === undefined || keys.prefix.byteLength > 0) {
    checkKeyStart(keys?.prefix ?? prefix, "prefix");
    if (keys === undefined) return { type: "prefix", prefix: keyName(prefix) };
  }
  const problem = problemOfSpan(keys);
  if (problem !== undefined) throw problemError(problem);
  if (keys.prefix.byteLength > 0) return { type: "prefix", prefix: keyName(keys.prefix) };
  const { start, end } = boundsOf(keys);
  return { type: "range", start: keyName(start), end: end && keyName(end) };
}

function progressOf({ progressMs }: WatchRequest): number {
  if (progressMs === 0) return limits.watchProgressMs;
  if (progressMs >= limits.watchProgressMsLeast) return progressMs;
  const text = `progress_ms is ${progressMs}: it must be at least ${limits.watchProgressMsLeast} (watchProgressMsLeast)`;
  throw new CairnError("INVALID_ARGUMENT", text);
}
