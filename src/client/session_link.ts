import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  KeyValueService,
  type ResponseHeader,
  type SessionAnswer,
  type SessionRequestSchema,
  type SessionResponse,
} from "../../gen/cairn/v1/kv_pb.js";
import type { Clock } from "../clock.js";
import { limits } from "../core/limits.js";
import { CairnError } from "../errors.js";
import type { BidiStream, SharedChannel } from "../transport/bridge_client.js";
import type { Call } from "./call.js";
import { afterAwake } from "./patient_timer.js";

/** A node that has been asked and says nothing for so long, in ms, is given up: it hangs, or has lost the cluster. */
const SILENCE_MS = 2_000;

/** What happens on a link. */
export interface LinkEvents {
  /** The node has answered. Calls are sent once {@link SessionLink.begin} is called. */
  greeted(header: ResponseHeader): void;
  answered(answers: readonly SessionAnswer[]): void;
  /** The link is of no more use; nothing comes after this. Not called when {@link SessionLink.close} ends it. */
  ended(error: CairnError): void;
}

/**
 * One Session stream to one node: sends the calls that are given to it, as many to a message as there are in a turn of the event loop or
 * while the network is busy, and hands out answers.
 */
export class SessionLink {
  readonly #stream: BidiStream<MessageInitShape<typeof SessionRequestSchema>, SessionResponse>;
  /** Calls that are not sent yet, in order. */
  readonly #outbox = new Set<Call>();
  /** Sequences of calls that were sent here and are not answered. */
  readonly #unanswered = new Set<number>();
  #isGreeted = false;
  #hasBegun = false;
  #isFlushing = false;
  #isClosed = false;
  /** Since when the node owes an answer. */
  #silentSince: number | undefined;
  #cancelWatch: (() => void) | undefined;

  constructor(
    channel: SharedChannel,
    hello: { readonly clientId: string; readonly clusterId: string },
    private readonly acknowledgedThrough: () => number,
    private readonly clock: Clock,
    private readonly events: LinkEvents,
  ) {
    this.address = channel.address;
    this.#stream = channel.client(KeyValueService).session();
    this.#send(hello);
    this.#expectAnswer();
    void this.#receive();
  }

  readonly address: string;

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

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelWatch?.();
    this.#stream.cancel();
  }

  async #receive(): Promise<void> {
    try {
      for await (const response of this.#stream.responses) this.#onResponse(response);
      this.#end(new CairnError("UNREACHABLE", `${this.address} has ended the session`));
    } catch (error) {
      this.#end(CairnError.from(error));
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
    if (this.#isFlushing || !this.#hasBegun || this.#isClosed || this.#outbox.size === 0) return;
    this.#isFlushing = true;
    this.clock.soon(() => void this.#flush());
  }

  async #flush(): Promise<void> {
    while (this.#outbox.size > 0 && !this.#isClosed) {
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
    return { calls, acknowledgedThrough: BigInt(this.acknowledgedThrough()) };
  }

  /** Resolves when there is room for another message, or there never will be: the receiving half tells why. */
  #send(message: MessageInitShape<typeof SessionRequestSchema>): Promise<void> {
    return this.#stream.send(message).catch(() => {});
  }

  #expectAnswer(): void {
    this.#silentSince ??= this.clock.now();
    if (this.#cancelWatch === undefined) this.#watch(SILENCE_MS);
  }

  #watch(ms: number): void {
    this.#cancelWatch = afterAwake(this.clock, ms, () => {
      this.#cancelWatch = undefined;
      if (this.#silentSince === undefined) return;
      const silentMs = this.clock.now() - this.#silentSince;
      if (silentMs < SILENCE_MS) this.#watch(SILENCE_MS - silentMs);
      else this.#end(new CairnError("UNREACHABLE", `${this.address} has said nothing for ${Math.round(silentMs)} ms`));
    });
  }

  #end(error: CairnError): void {
    if (this.#isClosed) return;
    this.close();
    this.events.ended(error);
  }
}
