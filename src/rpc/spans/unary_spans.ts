import type { DescMethod } from "@bufbuild/protobuf";
import { CairnError } from "../../base/errors.js";
import type { CallSpan, TracedCall, TraceHeaders, Tracing } from "../../base/telemetry/tracing.js";
import type { CallContext } from "../call_context.js";
import { statusOfCode } from "../status.js";

// Spans of unary calls, at both ends.

/** Begins the span of a call at its server, as a child of the caller's. */
export function serverSpan(
  tracing: Tracing,
  { parent, name }: DescMethod,
  { metadata }: Pick<CallContext, "metadata">,
): CallSpan | undefined {
  return tracing.server({ service: parent.typeName, method: name }, headersIn(tracing.headerNames, metadata));
}

/** Returns the headers with these names. */
function headersIn(names: readonly string[], metadata: CallContext["metadata"]): TraceHeaders {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = metadata.get(name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/** Returns the unary call that a call of a Session stream stands for. */
export function tracedCall(kind = "session", address?: string): TracedCall {
  const method = kind.charAt(0).toUpperCase() + kind.slice(1);
  return { service: "cairn.v1.KeyValueService", method, address };
}

/** Headers of W3C Trace Context, by which this passes on a context that it does not read. */
const W3C_HEADERS = ["traceparent", "tracestate"] as const;

/** Returns the context of a trace that came with a call; undefined without one. */
export function traceIn(metadata: CallContext["metadata"]): TraceHeaders | undefined {
  return metadata.get(W3C_HEADERS[0]) === undefined ? undefined : headersIn(W3C_HEADERS, metadata);
}

/** Makes a call as a span, and gives it the headers to send. */
export async function asClientSpan<Answer>(
  tracing: Tracing,
  traced: TracedCall,
  call: (headers: TraceHeaders | undefined) => Promise<Answer>,
): Promise<Answer> {
  const span = tracing.client(traced);
  if (span === undefined) return call(undefined);
  try {
    const answer = await span.run(() => call(span.headers));
    span.end(0);
    return answer;
  } catch (error) {
    span.end(statusOfCode(CairnError.from(error).code), error);
    throw error;
  }
}
