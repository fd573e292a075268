import { CairnError } from "../../base/errors.js";
import type { CallScope } from "../any_node.js";
import type { WatchEvent } from "./watch_events.js";
import { WatchFeed, type WatchSource } from "./watch_feed.js";
import type { KeyMatch } from "./watch_keys.js";
import type { WatchSettings } from "./watch_options.js";

/**
 * A watch for one consumer: see {@link CairnClient.watch}. It begins with the first event that is
 * asked for, or with {@link ready}. Leaving a `for await` loop ends it.
 */
export class KeyWatch implements AsyncIterableIterator<WatchEvent>, AsyncDisposable {
  readonly #feed: WatchFeed;
  readonly #events: AsyncGenerator<WatchEvent, void, undefined>;
  readonly #isReady: Promise<string>;
  readonly #notServed: (error: CairnError) => void;
  #scope: CallScope | undefined;
  #hasBegun = false;
  #isOver = false;
  /** The first event, when {@link ready} has asked for it. */
  #early: Promise<IteratorResult<WatchEvent, void>> | undefined;

  /** @internal */
  constructor(source: WatchSource, keys: KeyMatch, settings: WatchSettings) {
    let served = (_token: string) => {};
    let failed = (_error: CairnError) => {};
    this.#isReady = new Promise((resolve, reject) => {
      served = resolve;
      failed = reject;
    });
    // Only a caller of ready() wants to know.
    this.#isReady.catch(() => {});
    this.#notServed = failed;
    this.#feed = new WatchFeed(source, keys, settings, served);
    this.#events = this.#run(() => source.nodes.begin(settings.signal));
  }

  /**
   * Token of the last event that was yielded, or of a progress mark behind it; undefined until the
   * watch is served, and while existing keys are listed.
   */
  get token(): string | undefined {
    return this.#feed.token;
  }

  /** Why no node serves the watch at present, while it looks for one; undefined: one does. */
  get problem(): CairnError | undefined {
    return this.#feed.problem;
  }

  /**
   * Begins the watch, and resolves when a node serves it: each change that is made from then on is
   * yielded. Resolves with the token of this place. With `initial`, that is when all existing keys
   * have been read: read them meanwhile.
   */
  ready(): Promise<string> {
    if (!this.#hasBegun) {
      this.#early = this.next();
      this.#early.catch(() => {});
    }
    return this.#isReady;
  }

  /** Resolves with the next event. Rejects once with the error that ends the watch. */
  next(): Promise<IteratorResult<WatchEvent, void>> {
    const early = this.#early;
    this.#early = undefined;
    this.#hasBegun = true;
    return early ?? this.#events.next();
  }

  /** Ends the watch: whoever waits for the next event gets none. May be called more than once. */
  async close(): Promise<void> {
    await this.return();
  }

  /** {@link close}, as loops call it. */
  async return(): Promise<IteratorResult<WatchEvent, void>> {
    this.#hasBegun = this.#isOver = true;
    this.#early = undefined;
    this.#notServed(closed());
    this.#scope?.cancel(closed());
    await this.#events.return();
    return { done: true, value: undefined };
  }

  /** {@link close}, for `await using` (TypeScript 5.2; JavaScript from Node 24). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async *#run(begin: () => CallScope): AsyncGenerator<WatchEvent, void, undefined> {
    const scope = begin();
    this.#scope = scope;
    try {
      yield* this.#feed.events(scope);
    } catch (error) {
      this.#notServed(CairnError.from(error));
      if (!this.#isOver) throw error;
    } finally {
      scope.end();
    }
  }
}

function closed(): CairnError {
  return new CairnError("CANCELLED", "the watch was closed");
}
