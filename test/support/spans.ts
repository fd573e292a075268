import { context, propagation, type Span, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  ParentBasedSampler,
  type ReadableSpan,
  type Sampler,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { onTestFinished } from "vitest";

/** The spans of a test. */
export class RecordedSpans {
  readonly #exporter = new InMemorySpanExporter();
  readonly #provider: BasicTracerProvider;

  private constructor(sampler: Sampler | undefined) {
    const spanProcessors = [new SimpleSpanProcessor(this.#exporter)];
    this.#provider = new BasicTracerProvider({
      spanProcessors,
      ...(sampler !== undefined && { sampler: new ParentBasedSampler({ root: sampler }) }),
    });
  }

  /** Records the spans of this process until the test ends, as an application with OpenTelemetry does. */
  static start(sampler?: Sampler): RecordedSpans {
    const spans = new RecordedSpans(sampler);
    trace.setGlobalTracerProvider(spans.#provider);
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    propagation.setGlobalPropagator(new W3CTraceContextPropagator());
    onTestFinished(() => {
      trace.disable();
      context.disable();
      propagation.disable();
    });
    return spans;
  }

  /** Runs a function in a span of the application. */
  async inSpan<Result>(run: (span: Span) => Promise<Result>): Promise<Result> {
    return trace.getTracer("application").startActiveSpan("application", async (span) => {
      try {
        return await run(span);
      } finally {
        span.end();
      }
    });
  }

  /** The spans that have ended, in the order of their ends. */
  get all(): readonly ReadableSpan[] {
    return this.#exporter.getFinishedSpans();
  }

  /** The spans of a trace that are children of a span, each with its own, as text. */
  treeOf(traceId: string, parent: string | undefined = undefined): object[] {
    return this.all
      .filter((span) => span.spanContext().traceId === traceId && span.parentSpanContext?.spanId === parent)
      .map((span) => {
        const children = this.treeOf(traceId, span.spanContext().spanId);
        const name = `${["internal", "server", "client"][span.kind]} ${span.name}`;
        return children.length === 0 ? { name } : { name, children };
      });
  }
}
