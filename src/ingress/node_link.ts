import { CairnError } from "../base/errors.js";
import type { CallContext } from "../rpc/call_context.js";
import { openChannel, type SharedChannel } from "../rpc/client.js";
import { peerChannelSettings } from "../rpc/grpc_options.js";
import { traceIn } from "../rpc/spans/unary_spans.js";
import { clientText } from "../server/access/ingress_client.js";
import { metadataKeys } from "../server/access/metadata_keys.js";
import {
  type ForwardedAnswer,
  ForwardedCalls,
  type ForwardedRequest,
  NO_STREAM,
} from "../server/kv/forwarded_calls.js";

/**
 * Hands unary calls to the node, in batches. Stale reads have a stream of their own: they do not
 * wait behind writes that wait for a majority. A stream that has ended is opened again for the next
 * call.
 */
export class NodeLink {
  readonly #channel: SharedChannel;
  readonly #streams: { stale?: ForwardedCalls; other?: ForwardedCalls } = {};

  /** `node`: address at which the node serves; `tellsClients`: it asks who makes each call. */
  constructor(
    node: string,
    private readonly tellsClients: boolean,
  ) {
    this.#channel = openChannel(node, peerChannelSettings);
  }

  /**
   * Has the node carry a call out.
   * @throws CairnError the node's, or UNREACHABLE; OUTCOME_UNKNOWN for a write that was sent and
   * has no answer
   */
  async call(
    request: ForwardedRequest,
    context: Pick<CallContext, "cancel" | "metadata" | "peer" | "certificate">,
  ): Promise<ForwardedAnswer> {
    const { cancel, metadata } = context;
    const trace = traceIn(metadata);
    const origin = this.tellsClients
      ? { authorization: metadata.get("authorization"), client: clientText(context), trace }
      : trace && { trace };
    const answer = await this.#streamFor(request).call(request, cancel, origin);
    if (answer !== NO_STREAM) return answer;
    throw new CairnError("UNIMPLEMENTED", "the node takes no calls from an ingress process");
  }

  close(): void {
    this.#channel.close();
  }

  #streamFor(request: ForwardedRequest): ForwardedCalls {
    const isStale = request.case === "get" && request.value.stale === true && !request.value.minAppliedIndex;
    const name = isStale ? "stale" : "other";
    const open = this.#streams[name];
    if (open?.isOpen === true) return open;
    const opened = new ForwardedCalls({ ingress: true }, this.#channel, { [metadataKeys.ingress]: "calls" });
    this.#streams[name] = opened;
    return opened;
  }
}
