import { create, toBinary } from "@bufbuild/protobuf";
import { type AppendEntriesResponse, PeerHeaderSchema, RaftService } from "../../../gen/cairn/v1/raft_pb.js";
import { CairnError } from "../../base/errors.js";
import { nameOf } from "../../base/ids.js";
import { overLimit } from "../../base/telemetry/refusals.js";
import type { PeerAppend, PeerAppendAnswer } from "../../raft/messages.js";
import type { Channel, ClientCall } from "../../rpc/channel.js";
import { decodeMessage } from "../../rpc/codec.js";
import { headerTo, type Self, toAppendAnswer } from "../protocol.js";
import { encodeAppend } from "./append_codec.js";
import { AppendQueue } from "./append_queue.js";

// Sends AppendEntries to one peer over a stream, and matches the answers to the requests.

export interface AppendStreamEvents {
  answer(answer: PeerAppendAnswer): void;
  /** The peer tells the newest rules for commands that it knows. Called when that changes. */
  rules?(newest: number): void;
  /** Called once, as the last event: messages that were sent and are not answered may be lost. */
  ended(error: CairnError): void;
}

/** A message that was sent, without its entries, which may be trimmed meanwhile. */
interface Sent {
  readonly term: number;
  readonly round: number;
  readonly prevIndex: number;
  readonly acknowledged: number | undefined;
  readonly hasEntries: boolean;
}

const METHOD = RaftService.method.appendEntries;

/**
 * One AppendEntries stream to a peer, from its first message to its end. The stream is pipelined:
 * messages do not wait for answers, which come in the same order. It hands at most one message at a
 * time to the network, so that it notices a peer that does not read.
 */
export class AppendStream {
  readonly #to: string;
  readonly #self: Self;
  readonly #events: AppendStreamEvents;
  readonly #queue = new AppendQueue();
  /** Messages that were written and not answered, oldest first. */
  readonly #unanswered: Sent[] = [];
  readonly #call: ClientCall;
  /** True while the peer must accept entries before it is sent a second message with entries. */
  #isCautious: boolean;
  /** The newest rules that the peer has told. */
  #rules: number | undefined;
  #isFirst = true;
  #isWriting = false;
  #ended = false;

  /**
   * Starts the call.
   * @param isCautious the peer refused the previous stream, as one with a full disk does: send it
   * little until it accepts entries
   * @throws CairnError when the call cannot be started at all
   */
  constructor(channel: Channel, to: string, self: Self, isCautious: boolean, events: AppendStreamEvents) {
    this.#to = to;
    this.#self = self;
    this.#isCautious = isCautious;
    this.#events = events;
    this.#call = channel.startCall(
      METHOD,
      {},
      {
        message: (bytes) => this.#answered(bytes),
        ended: (error) => this.#end(error ?? new CairnError("OUTCOME_UNKNOWN", `${nameOf(to)} has ended the stream`)),
      },
    );
    this.#call.startRead();
  }

  /** Sends a message, or ends the stream when too much waits to be sent. */
  send(message: PeerAppend): void {
    if (this.#ended) return;
    if (this.#queue.add(message)) this.#writeNext();
    else {
      const text = `${nameOf(this.#to)} does not read: ${this.#queue.length} messages wait for it (peerQueueBytes)`;
      this.cancel(overLimit("BUSY", "peerQueueBytes", text));
    }
  }

  cancel(error: CairnError): void {
    this.#call.cancel(error);
  }

  #writeNext(): void {
    if (this.#isWriting || this.#ended || this.#mustWait) return;
    const message = this.#queue.take();
    if (message === undefined) return;
    this.#isWriting = true;
    const { term, round, prev, acknowledged } = message;
    const hasEntries = message.entries.length > 0;
    this.#unanswered.push({ term, round, prevIndex: prev.index, acknowledged, hasEntries });
    const bytes = encodeAppend(message, this.#isFirst ? this.#encodedHeader() : undefined);
    this.#isFirst = false;
    this.#call.write(bytes, () => {
      this.#isWriting = false;
      this.#writeNext();
    });
  }

  get #mustWait(): boolean {
    return this.#isCautious && this.#unanswered.some(({ hasEntries }) => hasEntries);
  }

  #encodedHeader(): Uint8Array {
    return toBinary(PeerHeaderSchema, create(PeerHeaderSchema, headerTo(this.#to, this.#self)));
  }

  #answered(bytes: Buffer): void {
    const request = this.#unanswered.shift();
    const answer = this.#decode(bytes, request);
    if (answer === undefined) return;
    this.#events.answer(answer);
    this.#call.startRead();
    if (!this.#isCautious || request?.hasEntries !== true) return;
    this.#isCautious = false;
    this.#writeNext();
  }

  /** Decodes an answer; undefined when the answer has ended the stream. */
  #decode(bytes: Buffer, request: Sent | undefined): PeerAppendAnswer | undefined {
    try {
      return this.#checked(request, decodeMessage(METHOD.output, bytes));
    } catch (error) {
      const { text } = CairnError.from(error);
      this.cancel(
        new CairnError("INTERNAL", `${nameOf(this.#to)} gives an answer that no correct peer gives: ${text}`),
      );
      return undefined;
    }
  }

  /** Checks that the k-th answer names the round of the k-th request. */
  #checked(request: Sent | undefined, response: AppendEntriesResponse): PeerAppendAnswer {
    if (request !== undefined && BigInt(request.round) === response.round) {
      if (response.newestRules !== this.#rules) this.#events.rules?.(response.newestRules);
      this.#rules = response.newestRules;
      return toAppendAnswer(this.#to, request, response);
    }
    const expected = request === undefined ? "nothing was asked" : `round ${request.round} is to be answered`;
    throw new CairnError("INVALID_ARGUMENT", `round ${response.round}, but ${expected}`);
  }

  #end(error: CairnError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#events.ended(error);
  }
}
