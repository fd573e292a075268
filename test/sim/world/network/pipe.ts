import type { Place, Scheduler } from "../time/scheduler.js";
import type { SimNetwork } from "./network.js";

/** How often a message is sent again that a blocked link holds up, in milliseconds. */
const AGAIN_MS = 200;

type Item<Message> = { readonly message: Message } | { readonly end: true } | { readonly error: unknown };

/** Messages from one node to another, in order, none of them lost; a link that is blocked delays them. For one reader. */
export class Pipe<Message> implements AsyncIterableIterator<Message> {
  /** On their way, oldest first. */
  readonly #items: Item<Message>[] = [];
  readonly #arrived: Item<Message>[] = [];
  #underWay = 0;
  /** When the last message arrives, in milliseconds. */
  #lastArrival = 0;
  #reader: { resolve(result: IteratorResult<Message>): void; reject(error: unknown): void } | undefined;
  readonly #senders: { resolve(): void; reject(error: unknown): void }[] = [];
  /** Nothing is taken any more. */
  #closed: { readonly error: unknown } | undefined;
  /** What the reader gets from now on. */
  #final: Item<Message> | undefined;

  constructor(
    private readonly where: { readonly scheduler: Scheduler; readonly network: SimNetwork },
    private readonly from: string,
    private readonly to: Place,
    private readonly window: number,
    private readonly label: string,
  ) {}

  /** Resolves when there is room for the next one. */
  send(message: Message): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed.error);
    this.#underWay += 1;
    this.#transmit({ message });
    if (this.#underWay < this.window) return Promise.resolve();
    return new Promise((resolve, reject) => this.#senders.push({ resolve, reject }));
  }

  /** No more messages; those that are under way arrive. */
  end(): void {
    if (this.#closed !== undefined) return;
    this.#close(new Error("the pipe has ended"));
    this.#transmit({ end: true });
  }

  /** The reader gets the error behind what is under way. */
  failLater(error: unknown): void {
    if (this.#closed !== undefined) return;
    this.#close(error);
    this.#transmit({ error });
  }

  /** The reader gets the error next. */
  fail(error: unknown): void {
    if (this.#closed === undefined) this.#close(error);
    this.#arrived.length = 0;
    this.#put({ error });
  }

  /** The reader takes no more. */
  abandon(): void {
    this.#final ??= { end: true };
    this.#close(new Error("nobody reads any more"));
  }

  next(): Promise<IteratorResult<Message>> {
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
      this.#hand();
    });
  }

  return(): Promise<IteratorResult<Message>> {
    this.abandon();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #close(error: unknown): void {
    this.#closed ??= { error };
    for (const { reject } of this.#senders.splice(0)) reject(error);
  }

  #transmit(item: Item<Message>): void {
    const { scheduler, network } = this.where;
    const arrival = Math.max(this.#lastArrival, scheduler.nowMs + network.delay(this.from, this.to.id));
    this.#lastArrival = arrival;
    this.#items.push(item);
    this.#arriveIn(arrival - scheduler.nowMs);
  }

  /** One more of the messages arrives then, the oldest. */
  #arriveIn(ms: number): void {
    const { scheduler, network } = this.where;
    scheduler.after(ms, this.to, `${this.label} from ${this.from}`, () => {
      if (network.isBlocked(this.from, this.to.id)) this.#arriveIn(AGAIN_MS);
      else this.#put(this.#items.shift()!);
    });
  }

  #put(item: Item<Message>): void {
    if (this.#final !== undefined) return;
    this.#arrived.push(item);
    this.#hand();
  }

  #hand(): void {
    const reader = this.#reader;
    const item = this.#final ?? this.#arrived.shift();
    if (reader === undefined || item === undefined) {
      if (item !== undefined && this.#final === undefined) this.#arrived.unshift(item);
      return;
    }
    this.#reader = undefined;
    if ("message" in item) {
      this.#underWay -= 1;
      if (this.#underWay < this.window) this.#senders.shift()?.resolve();
      reader.resolve({ done: false, value: item.message });
      return;
    }
    this.#final = item;
    if ("error" in item) reader.reject(item.error);
    else reader.resolve({ done: true, value: undefined });
  }
}
