import type { SessionCall } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../base/errors.js";
import { type CallSpan, type TraceHeaders, tracingOf } from "../../base/telemetry/tracing.js";
import { tracedCall } from "../../rpc/spans/unary_spans.js";
import { statusOfCode } from "../../rpc/status.js";

/** The spans of one Session stream: each call has one, although many share a message. */
export class CallSpans {
  readonly #spans = new Map<bigint, CallSpan>();

  /** Begins the span of a call, and runs its beginning within it. */
  begin<Result>({ sequence, call, trace }: SessionCall, run: () => Result): Result {
    const span = call.case === "readIndex" ? undefined : beginSpan(call.case, trace?.headers);
    if (span === undefined) return run();
    this.#spans.set(sequence, span);
    return span.run(run);
  }

  /** The call has its answer, or its error. */
  end(sequence: bigint, error?: unknown): void {
    if (this.#spans.size === 0) return;
    const span = this.#spans.get(sequence);
    if (span === undefined) return;
    this.#spans.delete(sequence);
    endSpan(span, error);
  }
}

/** Begins the span of a call that came in a Session stream; undefined when nobody records it. */
export function beginSpan(kind: SessionCall["call"]["case"], trace: TraceHeaders = {}): CallSpan | undefined {
  return tracingOf()?.server(tracedCall(kind), trace);
}

/** Ends the span of a call. */
export function endSpan(span: CallSpan, error: unknown): void {
  if (error === undefined) span.end(0);
  else span.end(statusOfCode(CairnError.from(error).code), error);
}
