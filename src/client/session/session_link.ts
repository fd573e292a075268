import type { MessageInitShape } from "@bufbuild/protobuf";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import {
  KeyValueService,
  type ResponseHeader,
  type SessionAnswer,
  type SessionRequestSchema,
  type SessionResponse,
} from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { BidiStream, SharedChannel } from "../../rpc/client.js";
import type { Clock } from "../../system/clock.js";
import type { Call } from "../call.js";
import { notLeader } from "../leader_search.js";
import { afterAwake } from "../patient_timer.js";

/**
 * A node that has been asked and says nothing for so long, in ms, is asked whether it still leads:
 * it may hang, or have lost the cluster.
 */
const SILENCE_MS = 1_000;

/** How long it may take to say so, in ms. */
const PROBE_MS = 1_000;

/** What happens on a link. */
export interface LinkEvents {
  /** The node has answered. Calls are sent once {@link SessionLink.begin} is called. */
  greeted(header: ResponseHeader): void;
  answered(answers: readonly SessionAnswer[]): void;
  /**
   * The link is of no more use; nothing comes after this. Not called when {@link SessionLink.close}
   * ends it.
   */
  ended(error: CairnError): void;
}

/**
 * One Session stream to one node: sends the calls that are given to it, as many to a message as
 * there are in a turn of the event loop or while the network is busy, and hands out answers.
 */
export class SessionLink {
  readonly #channel: SharedChannel;
  readonly #stream: BidiStream<MessageInitShape<typeof SessionRequestSchema>, SessionResponse>;
  /** Calls that are not sent yet, in order. */
  readonly #outbox = new Set<Call>();
  /** Sequences of calls that were sent here and are not answered. */
  readonly #unanswered = new Set<number>();
  #isGreeted = false;
  #hasBegun = false;
  #isFlushing = false;
  #isDraining = false;
  readonly #closing = new AbortController();
  /** Since when the node owes an answer. */
  #silentSince: number | undefined;
  #cancelWatch: (() => void) | undefined;

  constructor(
    channel: SharedChannel,
    hello: { readonly clientId: string; readonly clusterId: string },
    /** What goes with the writes of a message. */
    private readonly writeIdentity: () => { readonly acknowledgedThrough: number; readonly since: number },
    private readonly clock: Clock,
    private readonly events: LinkEvents,
  ) {
    this.#channel = channel;
    this.#stream = channel.client(KeyValueService).session();
    this.#send(hello);
    this.#expectAnswer();
    void this.#receive();
  }

  get address(): string {
    return this.#channel.address;
  }

  /** Sends a call, after those that were given before. */
  push(call: Call): void {
    this.#outbox.add(call);
    this.#flushSoon();
  }

  /** Nobody waits for this call any more. */
  drop(call: Call): void {
    this.#outbox.delete(call);
    this.#unanswered.delete(call.sequence);
  }

  /** The node leads: calls may be sent. */
  begin(): void {
    this.#hasBegun = true;
    this.#flushSoon();
  }

  /** Sends nothing more, and goes on receiving answers. */
  drain(): void {
    this.#isDraining = true;
  }

  /** Whether this call was sent here, and has no answer yet. */
  owes(call: Call): boolean {
    return this.#unanswered.has(call.sequence);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#closing.abort();
    this.#cancelWatch?.();
    this.#stream.cancel();
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #receive(): Promise<void> {
    try {
      for await (const response of this.#stream.responses) this.#onResponse(response);
      this.#end(new CairnError("UNREACHABLE", `${this.address} has ended the session`));
    } catch (error) {
      const { code, text } = CairnError.from(error);
      // That is said of every broken stream. What it means for each call is known here.
      this.#end(new CairnError(code === "OUTCOME_UNKNOWN" ? "UNREACHABLE" : code, text, { cause: error }));
    }
  }

  #onResponse({ header, answers }: SessionResponse): void {
    if (this.#isClosed) return;
    for (const { sequence } of answers) this.#unanswered.delete(Number(sequence));
    this.#silentSince = this.#unanswered.size > 0 ? this.clock.now() : undefined;
    if (!this.#isGreeted && header !== undefined) {
      this.#isGreeted = true;
      this.events.greeted(header);
    }
    if (answers.length > 0 && !this.#isClosed) this.events.answered(answers);
  }

  #flushSoon(): void {
    if (this.#isFlushing || !this.#hasBegun || this.#isClosed || this.#isDraining || this.#outbox.size === 0) return;
    this.#isFlushing = true;
    this.clock.soon(() => void this.#flush());
  }

  async #flush(): Promise<void> {
    while (this.#outbox.size > 0 && !this.#isClosed && !this.#isDraining) {
      const sent = this.#send(this.#nextMessage());
      this.#expectAnswer();
      await sent;
    }
    this.#isFlushing = false;
  }

  #nextMessage(): MessageInitShape<typeof SessionRequestSchema> {
    const calls = [];
    let bytes = 0;
    for (const call of this.#outbox) {
      bytes += call.bytes;
      const isFull = calls.length === limits.sessionMessageCalls || bytes > limits.sessionMessageBytes;
      if (isFull && calls.length > 0) break;
      this.#outbox.delete(call);
      this.#unanswered.add(call.sequence);
      call.sent();
      calls.push({ sequence: BigInt(call.sequence), call: call.request });
    }
    const { acknowledgedThrough, since } = this.writeIdentity();
    return { calls, acknowledgedThrough: BigInt(acknowledgedThrough), since: BigInt(since) };
  }

  /**
   * Resolves when there is room for another message, or there never will be: the receiving half
   * tells why.
   */
  #send(message: MessageInitShape<typeof SessionRequestSchema>): Promise<void> {
    return this.#stream.send(message).catch(() => {});
  }

  #expectAnswer(): void {
    this.#silentSince ??= this.clock.now();
    if (this.#cancelWatch === undefined) this.#watch(SILENCE_MS);
  }

  #watch(ms: number): void {
    const look = () => {
      this.#cancelWatch = undefined;
      const since = this.#silentSince;
      if (since === undefined) return;
      const silentMs = this.clock.now() - since;
      if (silentMs < SILENCE_MS) this.#watch(SILENCE_MS - silentMs);
      else void this.#probe(since);
    };
    // A call that waits for an answer has a timer of its own.
    this.#cancelWatch = afterAwake(this.clock, ms, look, { isBackground: true });
  }

  /**
   * Goes on waiting when the node says that it leads. It does so past what is being sent or
   * received, so that a large value on a slow network is no reason to begin again elsewhere.
   */
  async #probe(since: number): Promise<void> {
    const settings = { timeoutMs: PROBE_MS, signal: this.#closing.signal };
    try {
      const { nodeId, leaderId } = await this.#channel.client(AdminService).getStatus({}, settings);
      if (nodeId !== leaderId) this.#end(notLeader(nodeId, { id: leaderId, address: "" }));
    } catch (error) {
      if (this.#silentSince === since) {
        this.#end(new CairnError("UNREACHABLE", `${this.address} does not answer: ${CairnError.from(error).text}`));
      }
    }
    if (!this.#isClosed) this.#watch(SILENCE_MS);
  }

  #end(error: CairnError): void {
    if (this.#isClosed) return;
    this.close();
    this.events.ended(error);
  }
}
