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
import { CallBatches } from "../../rpc/call_batches.js";
import type { BidiStream, SharedChannel } from "../../rpc/client.js";
import { streamFailure } from "../../rpc/status.js";
import type { Clock } from "../../system/clock.js";
import type { Call } from "../call.js";
import { notLeader } from "../leader_search.js";
import { afterAwake } from "../patient_timer.js";

/**
 * When a node owes an answer and has been silent for this time, in ms, the client asks it whether
 * it is alive, and whether it still leads: the node may hang, or have lost the cluster.
 */
const SILENCE_MS = 1_000;

/** Time limit for that probe, in ms. */
const PROBE_MS = 1_000;

/** Receives the events of a link. */
export interface LinkEvents {
  /**
   * The node has greeted. Calls are sent once {@link SessionLink.begin} is called.
   * `rememberedWrites`: answers that the cluster remembers of a client; 0 when it does not say.
   */
  greeted(header: ResponseHeader, rememberedWrites: number): void;
  answered(answers: readonly SessionAnswer[]): void;
  /**
   * The link has failed; no further event follows. Not called when {@link SessionLink.close} ends
   * the link.
   */
  ended(error: CairnError): void;
}

/**
 * Runs one Session stream to one node: sends calls in batches and hands out the answers. A message
 * carries all calls that gathered in one turn of the event loop, or while the network was busy, up
 * to the limits of a message.
 */
export class SessionLink {
  readonly #channel: SharedChannel;
  readonly #stream: BidiStream<MessageInitShape<typeof SessionRequestSchema>, SessionResponse>;
  readonly #batches: CallBatches<Call>;
  /** Sequences of calls that were sent here and are not answered. */
  readonly #unanswered = new Set<number>();
  #isGreeted = false;
  readonly #closing = new AbortController();
  /** Since when the node owes an answer. */
  #silentSince: number | undefined;
  #cancelWatch: (() => void) | undefined;

  constructor(
    channel: SharedChannel,
    hello: { readonly clientId: string; readonly clusterId: string },
    /** Returns the fields that go with the writes of a message. */
    private readonly writeIdentity: () => { readonly acknowledgedThrough: number; readonly since: number },
    private readonly clock: Clock,
    private readonly events: LinkEvents,
    /** Whether only a leader can answer the calls. */
    private readonly options: { readonly needsLeader: boolean } = { needsLeader: true },
  ) {
    this.#channel = channel;
    this.#batches = new CallBatches(
      (calls) => this.#sendCalls(calls),
      (run) => clock.soon(run),
    );
    this.#stream = channel.client(KeyValueService).session();
    this.#send(hello);
    this.#expectAnswer();
    void this.#receive();
  }

  get address(): string {
    return this.#channel.address;
  }

  /** Whether the node has accepted the link. */
  get isGreeted(): boolean {
    return this.#isGreeted;
  }

  /** Sends a call, after all calls that were pushed before it. */
  push(call: Call): void {
    this.#batches.push(call);
  }

  /** Drops a call whose caller no longer waits. */
  drop(call: Call): void {
    this.#batches.drop(call);
    this.#unanswered.delete(call.sequence);
  }

  /** Starts to send calls. To be called when the node has said that it leads. */
  begin(): void {
    this.#batches.open();
  }

  /** Stops sending, and continues to receive answers. */
  drain(): void {
    this.#batches.stop();
  }

  /** Tells whether a call was sent here and has no answer yet. */
  owes(call: Call): boolean {
    return this.#unanswered.has(call.sequence);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#closing.abort();
    this.#batches.stop();
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
      this.#end(streamFailure(error));
    }
  }

  #onResponse({ header, answers, rememberedWrites }: SessionResponse): void {
    if (this.#isClosed) return;
    for (const { sequence } of answers) this.#unanswered.delete(Number(sequence));
    this.#silentSince = this.#unanswered.size > 0 ? this.clock.now() : undefined;
    if (!this.#isGreeted && header !== undefined) {
      this.#isGreeted = true;
      this.events.greeted(header, rememberedWrites);
    }
    if (answers.length > 0 && !this.#isClosed) this.events.answered(answers);
  }

  #sendCalls(calls: readonly Call[]): Promise<void> {
    for (const call of calls) {
      this.#unanswered.add(call.sequence);
      call.sent();
    }
    const { acknowledgedThrough, since } = this.writeIdentity();
    const sent = this.#send({
      calls: calls.map(({ sequence, request, trace }) => ({
        sequence: BigInt(sequence),
        call: request,
        ...(trace !== undefined && { trace: { headers: trace } }),
      })),
      acknowledgedThrough: BigInt(acknowledgedThrough),
      since: BigInt(since),
    });
    this.#expectAnswer();
    return sent;
  }

  /**
   * Resolves when there is room for another message, or when the stream has failed: the receiving
   * half reports the reason.
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
    // A call that waits for an answer has its own timer, which keeps the process alive.
    this.#cancelWatch = afterAwake(this.clock, ms, look, { isBackground: true });
  }

  /**
   * Asks the node whether it leads, and keeps the link when it does. The question overtakes
   * messages in transit, so a large value on a slow network does not make the client start again
   * elsewhere.
   */
  async #probe(since: number): Promise<void> {
    const settings = { timeoutMs: PROBE_MS, signal: this.#closing.signal };
    try {
      const { nodeId, leaderId } = await this.#channel.client(AdminService).getStatus({}, settings);
      if (this.options.needsLeader && nodeId !== leaderId) this.#end(notLeader(nodeId, { id: leaderId, address: "" }));
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
