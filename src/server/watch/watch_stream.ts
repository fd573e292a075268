import type { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { AnswerPlace } from "../../rpc/call_context.js";
import { bufferedBytes, EncodedMessage } from "../../rpc/codec.js";
import type { WatchSink } from "./watch.js";

/** The answers of one watch on their way to the network. */
export class WatchStream implements WatchSink, AsyncIterableIterator<EncodedMessage> {
  readonly #queue: Buffer[] = [];
  #bytesUnderWay = 0;
  #end: { readonly error: CairnError | undefined } | undefined;
  #reader: AwaitedAnswer<IteratorResult<EncodedMessage, undefined>> | undefined;
  ready: () => void = () => {};

  #waitsForRoom = false;

  /** `left`: called when the caller has ended the stream. `place`: room for its answers. */
  constructor(
    private readonly left: () => void,
    private readonly place?: AnswerPlace | undefined,
  ) {}

  /**
   * False also while the node has no room for answers: else each of many watches that nobody reads
   * would hold an answer of its own.
   */
  get isReady(): boolean {
    if (this.#bytesUnderWay >= limits.watchBufferBytes || this.#end !== undefined) return false;
    if (this.place === undefined || this.place.hasRoom) return true;
    if (!this.#waitsForRoom) void this.#waitForRoom(this.place);
    return false;
  }

  /** Tells the hub when there is room. */
  async #waitForRoom(place: AnswerPlace): Promise<void> {
    this.#waitsForRoom = true;
    for (let room = place.answerRoom(); room !== undefined; room = place.answerRoom()) {
      await room;
      if (place.isGone || this.#end !== undefined) break;
    }
    this.#waitsForRoom = false;
    if (this.isReady) this.ready();
  }

  send(answer: Buffer): void {
    this.#bytesUnderWay += bufferedBytes(answer);
    this.#queue.push(answer);
    this.#feed();
  }

  end(error: CairnError): void {
    this.#end ??= { error };
    this.#feed();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<EncodedMessage, undefined>> {
    this.#reader = withResolvers();
    const { promise } = this.#reader;
    this.#feed();
    return promise;
  }

  async return(): Promise<IteratorResult<EncodedMessage, undefined>> {
    this.#end ??= { error: undefined };
    this.#queue.length = 0;
    this.#feed();
    this.left();
    return DONE;
  }

  /** Gives the reader what it waits for, if it is there. */
  #feed(): void {
    const reader = this.#reader;
    if (reader === undefined) return;
    const answer = this.#queue.shift();
    if (answer !== undefined) {
      this.#reader = undefined;
      reader.resolve({ done: false, value: new EncodedMessage(answer, () => this.#written(answer)) });
    } else if (this.#end !== undefined) {
      this.#reader = undefined;
      if (this.#end.error === undefined) reader.resolve(DONE);
      else reader.reject(this.#end.error);
    }
  }

  #written(answer: Buffer): void {
    const wasFull = this.#bytesUnderWay >= limits.watchBufferBytes;
    this.#bytesUnderWay -= bufferedBytes(answer);
    if (wasFull && this.isReady) this.ready();
  }
}

const DONE: IteratorReturnResult<undefined> = { done: true, value: undefined };

interface AwaitedAnswer<Value> {
  readonly promise: Promise<Value>;
  resolve(value: Value): void;
  reject(error: unknown): void;
}

function withResolvers<Value>(): AwaitedAnswer<Value> {
  let [resolve, reject]: [(value: Value) => void, (error: unknown) => void] = [() => {}, () => {}];
  const promise = new Promise<Value>((yes, no) => {
    [resolve, reject] = [yes, no];
  });
  return { promise, resolve, reject };
}
