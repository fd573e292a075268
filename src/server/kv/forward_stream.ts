import type { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { CallContext } from "../../rpc/call_context.js";
import { systemClock } from "../../system/clock.js";
import { type Forwarding, type LeaderAt, nameToVouchFor } from "../forwarding.js";
import { type ForwardedAnswer, ForwardedCalls, type ForwardedRequest, NO_STREAM } from "./forwarded_calls.js";

/**
 * Passes the unary calls of a follower on to the leader that it follows, in batches, and asks that
 * leader for read indexes.
 */
export class ForwardStream {
  #calls: ForwardedCalls | undefined;
  #channel: LeaderAt["channel"] | undefined;
  /** A leader that takes no calls over a stream: its calls are passed on one by one. */
  #withoutStream: string | undefined;

  constructor(
    private readonly member: { readonly id: string; readonly clusterId: string },
    private readonly forwarding: Forwarding<typeof KeyValueService>,
  ) {}

  /**
   * Passes a call on. Undefined, now or later, when the call is to be answered here, or passed on
   * by itself. A stale read is.
   * @throws CairnError as {@link ForwardedCalls.call}
   */
  ask(request: ForwardedRequest, context: CallContext): Promise<ForwardedAnswer | undefined> | undefined {
    if (request.case === "get" && request.value.stale === true) return undefined;
    const leader = this.forwarding.leaderFor(context);
    if (leader === undefined || leader.address === this.#withoutStream) return undefined;
    return this.#ask(leader, request, context);
  }

  /**
   * Asks a leader for its read index, on the stream that the calls take: it is there, and it ends
   * with that leader.
   * @throws CairnError as {@link ForwardedCalls.readIndex}; TIMEOUT when the leader hangs
   */
  async readIndex(leader: LeaderAt): Promise<number | "unknown"> {
    if (leader.address === this.#withoutStream) return "unknown";
    const patience = new AbortController();
    const callOff = systemClock.after(limits.peerCallMs, () => patience.abort(noAnswer(leader)), true);
    try {
      return await this.#callsTo(leader).readIndex(patience.signal);
    } catch (error) {
      throw this.forwarding.failure(error, leader);
    } finally {
      callOff();
    }
  }

  async #ask(leader: LeaderAt, request: ForwardedRequest, context: CallContext): Promise<ForwardedAnswer | undefined> {
    try {
      const { access, cancel } = context;
      const origin = access && { caller: nameToVouchFor(access) };
      const answer = await this.#callsTo(leader).call(request, cancel, origin);
      if (answer !== NO_STREAM) return answer;
      this.#withoutStream = leader.address;
      return undefined;
    } catch (error) {
      throw this.forwarding.failure(error, leader);
    }
  }

  #callsTo({ channel }: LeaderAt): ForwardedCalls {
    if (this.#calls?.isOpen === true && this.#channel === channel) return this.#calls;
    this.#calls?.retire();
    this.#channel = channel;
    const { id, clusterId } = this.member;
    this.#calls = new ForwardedCalls({ forwardedBy: id, clusterId }, channel);
    return this.#calls;
  }
}

function noAnswer({ id }: LeaderAt): CairnError {
  return new CairnError("TIMEOUT", `the leader ${id} did not tell its read index within ${limits.peerCallMs} ms`);
}
