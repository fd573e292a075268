import type { TxnResponse } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../base/errors.js";
import type { CallOptions } from "../options.js";
import type { Condition } from "./conditions.js";
import { type ComparisonMessage, comparisonOf, type OperationMessage, operationOf, resultsOf } from "./messages.js";
import type { ResultsOf, TxnStep } from "./steps.js";

/** The request of a transaction. */
export interface TxnMessage {
  readonly compare: readonly ComparisonMessage[];
  readonly then: readonly OperationMessage[];
  readonly otherwise: readonly OperationMessage[];
}

/** Which steps were carried out, and what they did. */
export type TxnResult<
  Then extends readonly TxnStep[] = readonly TxnStep[],
  Else extends readonly TxnStep[] = readonly TxnStep[],
> =
  | {
      /** All conditions held. */
      readonly succeeded: true;
      /** The transaction's place in the log: the version of every key that it set. */
      readonly version: number;
      /** The results of the steps of {@link Txn.then}. */
      readonly results: ResultsOf<Then>;
    }
  | {
      readonly succeeded: false;
      readonly version: number;
      /** The results of the steps of {@link Txn.else}. */
      readonly results: ResultsOf<Else>;
    };

/**
 * A transaction of {@link CairnClient.txn}. All of its conditions are judged, and one of its two
 * lists of steps is carried out, at one place in the log: no other write comes between, and all of
 * it takes effect or nothing. Each step sees the effects of the earlier ones. A list may change a
 * key once.
 *
 * {@link commit} sends it, once. The transaction itself is no promise, although it has a `then`.
 */
export class Txn<Then extends readonly TxnStep[] = [], Else extends readonly TxnStep[] = []> {
  readonly #compare: ComparisonMessage[] = [];
  readonly #then: OperationMessage[] = [];
  readonly #else: OperationMessage[] = [];
  #committed: Promise<TxnResult<Then, Else>> | undefined;

  /** @internal */
  constructor(private readonly send: (message: TxnMessage, options: CallOptions) => Promise<TxnResponse>) {}

  /** Adds conditions, which must all hold. Without any, they hold. @throws CairnError */
  when(...conditions: readonly Condition[]): this {
    this.#assertOpen();
    this.#compare.push(...conditions.map(comparisonOf));
    return this;
  }

  /**
   * Adds steps for when all conditions hold.
   * @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED
   */
  then<const Steps extends readonly TxnStep[]>(...steps: Steps): Txn<[...Then, ...Steps], Else> {
    if (typeof steps[0] === "function") throw notAwaitable();
    this.#assertOpen();
    this.#then.push(...steps.map(operationOf));
    return this as unknown as Txn<[...Then, ...Steps], Else>;
  }

  /**
   * Adds steps for when a condition does not hold.
   * @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED
   */
  else<const Steps extends readonly TxnStep[]>(...steps: Steps): Txn<Then, [...Else, ...Steps]> {
    this.#assertOpen();
    this.#else.push(...steps.map(operationOf));
    return this as unknown as Txn<Then, [...Else, ...Steps]>;
  }

  /**
   * Sends the transaction. Resolves when it is durable on a majority. Called again, it returns the
   * same promise.
   * @throws CairnError as the calls of {@link CairnClient}. LIMIT_EXCEEDED also when the
   * transaction would touch or return too much: nothing happened, and the text names the limit
   */
  commit(options: CallOptions = {}): Promise<TxnResult<Then, Else>> {
    this.#committed ??= this.#commit(options);
    return this.#committed;
  }

  async #commit(options: CallOptions): Promise<TxnResult<Then, Else>> {
    const response = await this.send({ compare: this.#compare, then: this.#then, otherwise: this.#else }, options);
    const { succeeded, version } = response;
    const results = resultsOf(succeeded ? this.#then : this.#else, response);
    return { succeeded, version: Number(version), results } as unknown as TxnResult<Then, Else>;
  }

  #assertOpen(): void {
    if (this.#committed === undefined) return;
    throw new CairnError("FAILED_PRECONDITION", "the transaction was sent: make another one");
  }
}

/** `await` passes functions to any `then`. */
function notAwaitable(): CairnError {
  return new CairnError("INVALID_ARGUMENT", "a transaction cannot be awaited: call commit(), and await its result");
}
