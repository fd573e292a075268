import * as grpc from "@grpc/grpc-js";
import type { SessionCall } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../base/errors.js";
import { type CallContext, type ServerCall, ServerCallContext } from "../../rpc/call_context.js";
import { toCallError } from "../../rpc/status.js";
import type { CheckedCall } from "../access/checks.js";
import { clientShown } from "../access/ingress_client.js";
import { beginSpan, endSpan } from "./call_spans.js";
import type { Header } from "./key_value_calls.js";
import type { UnaryCalls } from "./kv_service.js";
import type { PendingAnswer, SessionAnswer } from "./session_calls.js";

// Carries out the calls that an ingress process hands to its node.

/** Receives the fate of each call, exactly once. */
export interface IngressCallEvents {
  answered(answer: PendingAnswer): void;
  /** Nobody waits for this many calls any longer: they get no answer. */
  abandoned(calls: number): void;
}

/** The answer of a unary method. */
type UnaryAnswer = { readonly header?: Header | undefined } & object;

/**
 * Carries out the calls of one ingress process with the methods that answer unary calls, so that a
 * call has the same effect and the same answer at either port.
 */
export class IngressCalls {
  readonly #running = new Map<bigint, CarriedCall>();

  constructor(
    private readonly nodeId: string,
    private readonly unary: UnaryCalls,
    private readonly events: IngressCallEvents,
    /** The stream of the ingress process. */
    private readonly stream: CheckedCall,
  ) {}

  start(calls: readonly SessionCall[]): void {
    for (const call of calls) void this.#carryOut(call);
  }

  /** Gives calls up, as when their clients had cancelled them. Skips those that are answered. */
  abandon(sequences: readonly bigint[]): void {
    for (const sequence of sequences) this.#running.get(sequence)?.abandon();
  }

  /** Gives all calls up: the ingress process is gone. */
  abandonAll(): void {
    for (const call of [...this.#running.values()]) call.abandon();
  }

  async #carryOut({ sequence, call, authorization, client, trace }: SessionCall): Promise<void> {
    const span = beginSpan(call.case, trace?.headers);
    const carried = new CarriedCall(call.case);
    this.#running.set(sequence, carried);
    try {
      const context = new ServerCallContext(carried);
      const { access } = this.stream;
      if (access !== undefined) {
        const { certificate, address } = clientShown(client) ?? {};
        context.clientAddress = address;
        context.access = access.shown({ authorization: authorization || undefined, certificate }, context);
      }
      const answered = span === undefined ? this.#answer(call, context) : span.run(() => this.#answer(call, context));
      const { header, ...value } = await answered;
      if (span !== undefined) endSpan(span, undefined);
      const answer = { sequence, answer: { case: call.case, value } } as SessionAnswer;
      this.#ended(sequence, carried, answer, header?.nodeId === this.nodeId ? undefined : header);
    } catch (cause) {
      const error = CairnError.from(cause);
      if (span !== undefined) endSpan(span, error);
      const value = { ...toCallError(error), retryable: error.retryable };
      this.#ended(sequence, carried, { sequence, answer: { case: "error", value } });
    }
  }

  #answer({ case: kind, value }: SessionCall["call"], context: CallContext): Promise<UnaryAnswer> {
    switch (kind) {
      case "get":
        return this.unary.get(value, context);
      case "put":
        return this.unary.put(value, context);
      case "delete":
        return this.unary.delete(value, context);
      case "compareAndSet":
        return this.unary.compareAndSet(value, context);
      case "txn":
        return this.unary.txn(value, context);
      default:
        throw new CairnError("UNIMPLEMENTED", `an ingress process does not pass on ${kind ?? "an empty call"}`);
    }
  }

  #ended(sequence: bigint, { isAbandoned }: CarriedCall, answer: SessionAnswer, header?: Header): void {
    this.#running.delete(sequence);
    if (isAbandoned) this.events.abandoned(1);
    else this.events.answered({ header, take: () => answer });
  }
}

const NO_METADATA = new grpc.Metadata();

/** A call whose client waits at an ingress process. */
class CarriedCall implements ServerCall {
  readonly metadata = NO_METADATA;
  isAbandoned = false;
  #cancel: (() => void) | undefined;

  constructor(private readonly kind: SessionCall["call"]["case"]) {}

  on(_event: "cancelled", listener: () => void): void {
    this.#cancel = listener;
  }

  /** The ingress process watches over the client's deadline. */
  getDeadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  getPath(): string {
    const { kind = "" } = this;
    return `/cairn.v1.KeyValueService/${kind.charAt(0).toUpperCase()}${kind.slice(1)}`;
  }

  getPeer(): string {
    return "an ingress process";
  }

  abandon(): void {
    this.isAbandoned = true;
    this.#cancel?.();
  }
}

/** Returns whether one header may stand for both: the same node, in the same role and term. */
export function isSameSource(one: Header | undefined, other: Header | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return one.nodeId === other.nodeId && one.term === other.term && one.leaderId === other.leaderId;
}
