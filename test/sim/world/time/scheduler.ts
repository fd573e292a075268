import type { Trace } from "../../run/trace.js";
import { EventQueue } from "./event_queue.js";
import { isTurnDue } from "./turns.js";

/** Events after which the process gets to see to its own: signals, messages, rejections that nobody handles. */
const EVENTS_PER_TURN = 400;

/** The process's own, before {@link forbidRealTime} takes it away from everybody else. */
const realTurn = setImmediate;

/** Where something happens: a machine of the cluster. */
export interface Place {
  readonly id: string;
  /** Changes whenever the process there ends or begins. */
  readonly life: number;
  /** While it is, what is to happen there is put off. */
  readonly isPaused: boolean;
  readonly deferred: SimEvent[];
}

export interface SimEvent {
  /** Simulated time in microseconds. */
  readonly at: number;
  readonly order: number;
  readonly place: Place | undefined;
  /** Happens only in this life of the place. */
  readonly life: number | undefined;
  readonly label: string;
  /** Undefined when it was called off. */
  run: (() => void) | undefined;
}

/** Who looks at what an event has led to, once everything that follows from it without time passing has happened. */
export interface Watcher {
  settled(place: Place | undefined): Promise<void> | undefined;
}

/**
 * Simulated time: one event after the other, in order of their times. After each one all that it leads to without time passing, that is all
 * promise jobs, comes to its end before anything else happens.
 */
export class Scheduler {
  /** Microseconds since the start. */
  now = 0;
  readonly #queue = new EventQueue();
  #order = 0;
  #place: Place | undefined;
  #isOver = false;
  #end: { resolve(): void; reject(error: unknown): void } | undefined;

  constructor(
    private readonly trace: Trace,
    private readonly watcher: Watcher,
  ) {}

  /** Milliseconds since the start. */
  get nowMs(): number {
    return this.now / 1000;
  }

  /** In `ms` from now, with whatever happens at `place` (if one is given) in its present life. */
  after(ms: number, place: Place | undefined, label: string, run: () => void): SimEvent {
    return this.#add(ms, place, place?.life, label, run);
  }

  /** In `ms` from now, at a place, whatever lives there then. */
  arrive(ms: number, place: Place, label: string, run: () => void): SimEvent {
    return this.#add(ms, place, undefined, label, run);
  }

  cancel(event: SimEvent): void {
    event.run = undefined;
  }

  /** Resolves in `ms`. */
  sleep(ms: number, label: string): Promise<void> {
    return new Promise((resolve) => this.after(ms, undefined, label, resolve));
  }

  /** What was put off happens now, in order. */
  resume(place: Place): void {
    for (const { life, label, run } of place.deferred.splice(0)) {
      if (run !== undefined) this.#add(0, place, life, label, run);
    }
  }

  /** The present event has to do with this place too. */
  touch(place: Place): void {
    this.#place = place;
  }

  /** Goes on until {@link stop}, or until something fails. */
  run(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#end = { resolve, reject };
      this.#turn();
    });
  }

  stop(): void {
    this.#isOver = true;
  }

  #add(ms: number, place: Place | undefined, life: number | undefined, label: string, run: () => void): SimEvent {
    const at = this.now + Math.max(0, Math.round(ms * 1000));
    const event: SimEvent = { at, order: this.#order++, place, life, label, run };
    this.#queue.push(event);
    return event;
  }

  /** Promise jobs first: a tick that is queued by one of them comes when there are none left. */
  #settle(): void {
    queueMicrotask(() => process.nextTick(this.#turn));
  }

  readonly #turn = (): void => {
    if (isTurnDue()) this.#settle();
    else this.#look();
  };

  /** The event before has settled. */
  #look(): void {
    try {
      const looking = this.watcher.settled(this.#place);
      if (looking === undefined) this.#next();
      else looking.then(this.#next, this.#fail);
    } catch (error) {
      this.#fail(error);
    }
  }

  readonly #next = (): void => {
    if (this.#isOver) {
      this.#end?.resolve();
      return;
    }
    this.#happen();
    if (this.trace.count % EVENTS_PER_TURN === 0) realTurn(this.#turn);
    else this.#settle();
  };

  #happen(): void {
    try {
      const event = this.#due();
      this.now = event.at;
      this.#place = event.place;
      this.trace.add(`${(event.at / 1000).toFixed(3)} ${event.place?.id ?? "-"} ${event.label}`);
      event.run!();
    } catch (error) {
      this.#fail(error);
    }
  }

  readonly #fail = (error: unknown): void => {
    this.#isOver = true;
    this.#end?.reject(error);
  };

  #due(): SimEvent {
    for (;;) {
      const event = this.#queue.pop();
      if (event === undefined) throw new Error("the simulation has come to a standstill: nothing is left to happen");
      const { place, life, run } = event;
      if (run === undefined || (life !== undefined && life !== place!.life)) continue;
      if (place?.isPaused) place.deferred.push(event);
      else return event;
    }
  }
}
