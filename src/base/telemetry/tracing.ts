import Module from "node:module";
import { join } from "node:path";
import { CairnError } from "../errors.js";

// Spans of calls through @opentelemetry/api, when the application has it. Nothing is loaded, made
// or sent when it has not.

/** The package, which nobody needs. */
const OTEL = "@opentelemetry/api";

/** Context of a trace as it travels with a call, such as `traceparent` (W3C Trace Context). */
export type TraceHeaders = Readonly<Record<string, string>>;

/** Facts about a span or one of its events. */
type SpanFacts = Readonly<Record<string, string | number>>;

/** The parts of the package that are used here: its types must not be needed to compile Cairn. */
interface OtelSpan {
  spanContext(): { readonly traceId: string };
  isRecording(): boolean;
  setAttributes(attributes: SpanFacts): unknown;
  setStatus(status: { readonly code: number; readonly message?: string }): unknown;
  addEvent(name: string, attributes?: SpanFacts): unknown;
  end(): void;
}

type OtelContext = object;

interface OtelApi {
  readonly SpanKind: { readonly SERVER: number; readonly CLIENT: number };
  readonly SpanStatusCode: { readonly ERROR: number };
  isSpanContextValid(context: ReturnType<OtelSpan["spanContext"]>): boolean;
  readonly context: {
    active(): OtelContext;
    with<Result>(context: OtelContext, run: () => Result): Result;
  };
  readonly trace: {
    getTracer(name: string): {
      startSpan(name: string, options: { kind: number; attributes: SpanFacts }, parent: OtelContext): OtelSpan;
    };
    getActiveSpan(): OtelSpan | undefined;
    setSpan(context: OtelContext, span: OtelSpan): OtelContext;
  };
  readonly propagation: {
    inject(context: OtelContext, carrier: Record<string, string>): void;
    extract(context: OtelContext, carrier: TraceHeaders): OtelContext;
    fields(): readonly string[];
  };
}

/** gRPC statuses that are a fault of the server: UNKNOWN, DEADLINE_EXCEEDED, and so on. */
const SERVER_FAULTS: ReadonlySet<number> = new Set([2, 4, 12, 13, 14, 15]);

/** The call that a span is of. */
export interface TracedCall {
  /** cairn.v1.KeyValueService */
  readonly service: string;
  /** Put */
  readonly method: string;
  /** host:port of the other end, as far as it is known. */
  readonly address?: string | undefined;
}

/** A span of one call. */
export class CallSpan {
  constructor(
    private readonly otel: OtelApi,
    private readonly span: OtelSpan,
    private readonly context: OtelContext,
    private readonly kind: "client" | "server",
  ) {}

  /** Runs a function within the span: spans that it begins are children of this one. */
  run<Result>(run: () => Result): Result {
    return this.otel.context.with(this.context, run);
  }

  /** Returns the context to send with the call. */
  get headers(): TraceHeaders {
    const headers: Record<string, string> = {};
    this.otel.propagation.inject(this.context, headers);
    return headers;
  }

  /** Ends the span. `status`: the gRPC status, 0 for OK. */
  end(status: number, error?: unknown): void {
    const { span, otel } = this;
    span.setAttributes({ "rpc.grpc.status_code": status });
    if (error !== undefined) {
      const { code } = CairnError.from(error);
      span.setAttributes({ "error.type": code });
      // The text may name a key, so it stays out of the trace.
      if (this.kind === "client" || SERVER_FAULTS.has(status)) {
        span.setStatus({ code: otel.SpanStatusCode.ERROR, message: code });
      }
    }
    span.end();
  }
}

/** Makes spans. */
export class Tracing {
  constructor(private readonly otel: OtelApi) {}

  /**
   * Begins the span of a call that this process makes, as a child of the active span. Returns
   * undefined when nobody records spans, and there is no trace to continue.
   */
  client(call: TracedCall): CallSpan | undefined {
    return this.#begin("client", call, this.otel.context.active());
  }

  /** Begins the span of a call that came with these headers. Returns undefined as above. */
  server(call: TracedCall, headers: TraceHeaders): CallSpan | undefined {
    return this.#begin("server", call, this.otel.propagation.extract(this.otel.context.active(), headers));
  }

  /** Names of the headers that carry the context of a trace. */
  get headerNames(): readonly string[] {
    return this.otel.propagation.fields();
  }

  /** Returns the context of the active span, to pass it on; undefined without one. */
  get activeHeaders(): TraceHeaders | undefined {
    if (this.otel.trace.getActiveSpan() === undefined) return undefined;
    const headers: Record<string, string> = {};
    this.otel.propagation.inject(this.otel.context.active(), headers);
    return headers;
  }

  /** Returns a function that adds an event to the active span; undefined when none is recorded. */
  get activeEvents(): ((name: string, attributes: SpanFacts) => void) | undefined {
    const span = this.otel.trace.getActiveSpan();
    return span?.isRecording() ? (name, attributes) => void span.addEvent(name, attributes) : undefined;
  }

  #begin(kind: "client" | "server", call: TracedCall, parent: OtelContext): CallSpan | undefined {
    const { otel } = this;
    const options = {
      kind: kind === "client" ? otel.SpanKind.CLIENT : otel.SpanKind.SERVER,
      attributes: factsOf(call),
    };
    const span = otel.trace.getTracer("cairn-raft").startSpan(`${call.service}/${call.method}`, options, parent);
    if (!span.isRecording() && !otel.isSpanContextValid(span.spanContext())) return undefined;
    return new CallSpan(otel, span, otel.trace.setSpan(parent, span), kind);
  }
}

function factsOf({ service, method, address }: TracedCall): SpanFacts {
  const port = address?.slice(address.lastIndexOf(":") + 1);
  return {
    "rpc.system": "grpc",
    "rpc.service": service,
    "rpc.method": method,
    ...(service === "cairn.v1.KeyValueService" && { "db.system.name": "cairn", "db.operation.name": method }),
    ...(address !== undefined && {
      "server.address": address.slice(0, address.lastIndexOf(":")),
      "server.port": Number(port),
    }),
  };
}

let looked = false;
let tracing: Tracing | undefined;

/**
 * Returns the means to make spans; undefined when the application has no @opentelemetry/api. Looks
 * for the package once.
 */
export function tracingOf(load: (name: string) => unknown = required): Tracing | undefined {
  if (looked) return tracing;
  looked = true;
  try {
    tracing = new Tracing(load(OTEL) as OtelApi);
  } catch {
    // It is not installed, which is the usual case.
  }
  return tracing;
}

/**
 * Requires a package. Bundles of applications contain this: as CommonJS they do not know their own
 * file, and look from the working directory; and their own banner may declare `createRequire`.
 */
function required(name: string): unknown {
  const url = import.meta.url as string | undefined;
  return Module.createRequire(url ?? join(process.cwd(), "index.js"))(name);
}
