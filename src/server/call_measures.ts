import type { DescMethod } from "@bufbuild/protobuf";
import type { CairnErrorCode } from "../base/errors.js";
import { Histogram, NamedCounts } from "../base/telemetry/measures.js";
import type { CallObserver } from "../rpc/server.js";

/** The calls of one method since the server started. */
export class MethodMeasures implements CallObserver {
  /** Calls that have ended, by the code of their error, or OK. */
  readonly ends = new NamedCounts<CairnErrorCode | "OK">();
  /** Duration of calls with one answer, in ms. Streams live as long as their callers want. */
  readonly times = new Histogram();
  /** Calls and streams under way. */
  active = 0;

  constructor(
    readonly service: string,
    readonly method: string,
    private readonly isUnary: boolean,
  ) {}

  begun(): number {
    this.active++;
    return performance.now();
  }

  ended(begunMs: number, code: CairnErrorCode | undefined): void {
    this.active--;
    this.ends.add(code ?? "OK");
    if (this.isUnary) this.times.record(performance.now() - begunMs);
  }
}

/** Counts and times the calls that a server answers, by method. */
export class CallMeasures {
  readonly #methods: MethodMeasures[] = [];

  get methods(): readonly MethodMeasures[] {
    return this.#methods;
  }

  /** Returns the observer of a method, for `AddServiceOptions.observe`. */
  readonly observe = (method: DescMethod): CallObserver => {
    const measures = new MethodMeasures(method.parent.typeName, method.name, method.methodKind === "unary");
    this.#methods.push(measures);
    return measures;
  };
}
