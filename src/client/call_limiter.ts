import { CairnError } from "../base/errors.js";
import type { Clock } from "../system/clock.js";
import { CallQueue, type Place, type QueueRoom } from "./call_queue.js";
import { afterAwake } from "./patient_timer.js";

/** A call that waits for its turn. */
interface WaitingCall {
  readonly bytes: number;
  readonly begin: () => void;
}

/** Lets a fixed number of calls run at a time; further calls wait in order. */
export class CallLimiter {
  readonly #waiting: CallQueue<WaitingCall>;
  #running = 0;
  /** When a call last had its answer; 0: never. */
  #answeredAt = 0;

  constructor(
    private readonly most: number,
    room: QueueRoom,
    private readonly clock: Clock,
  ) {
    this.#waiting = new CallQueue(room);
  }

  /**
   * Waits for a turn, which {@link end} must end. Resolves with the moment from which the call's
   * time limit counts: while the call waits, an answer to any other call restarts its time.
   * @throws CairnError QUEUE_FULL; TIMEOUT when no call has an answer in time; the signal's reason
   */
  async begin(bytes: number, timeoutMs: number, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted();
    const madeAt = this.clock.now();
    const startedAt = () => Math.max(madeAt, this.#answeredAt);
    if (this.#running >= this.most) await this.#wait(bytes, timeoutMs, signal, startedAt);
    else this.#running++;
    return startedAt();
  }

  /** Begins a turn if no other call has to wait for one; {@link end} must end it. */
  tryBegin(): boolean {
    if (this.#running >= this.most) return false;
    this.#running++;
    return true;
  }

  /** Ends a turn, and starts the next call that waits. */
  end(isAnswered: boolean): void {
    if (isAnswered) this.#answeredAt = this.clock.now();
    const next = this.#waiting.first;
    if (next === undefined) {
      this.#running--;
      return;
    }
    this.#waiting.remove(next);
    next.item.begin();
  }

  #wait(bytes: number, timeoutMs: number, signal: AbortSignal, startedAt: () => number): Promise<void> {
    return new Promise((resolve, reject) => {
      let place: Place<WaitingCall>;
      const stop = () => {
        cancelTimer();
        signal.removeEventListener("abort", giveUp);
        this.#waiting.remove(place);
      };
      const giveUp = () => {
        stop();
        reject(signal.reason);
      };
      const late = () => {
        stop();
        reject(
          new CairnError("TIMEOUT", `earlier calls had no answer in ${timeoutMs} ms, and this one was still queued`),
        );
      };
      const begin = () => {
        stop();
        resolve();
      };
      place = this.#waiting.add({ bytes, begin });
      const cancelTimer = afterAwake(this.clock, timeoutMs, late, { startedAt });
      signal.addEventListener("abort", giveUp, { once: true });
    });
  }
}
