import type { CairnError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { overLimit } from "../base/telemetry/refusals.js";

/** Counts the calls that wait in all queues of one client, and refuses calls above the limits. */
export class QueueRoom {
  #calls = 0;
  #bytes = 0;

  /** @throws CairnError QUEUE_FULL */
  take(bytes: number): void {
    if (this.#calls >= limits.clientQueueCalls) throw queueFull("clientQueueCalls", `${this.#calls} calls`);
    if (this.#bytes + bytes > limits.clientQueueBytes) throw queueFull("clientQueueBytes", `${this.#bytes} bytes`);
    this.#calls++;
    this.#bytes += bytes;
  }

  giveBack(bytes: number): void {
    this.#calls--;
    this.#bytes -= bytes;
  }
}

/** An item that waits. Its size is the approximate number of bytes that it takes in a message. */
interface Sized {
  readonly bytes: number;
}

/** The place of one item in a {@link CallQueue}. */
export interface Place<Item> {
  readonly item: Item;
  /** Becomes false when the item leaves the queue. */
  isTaken: boolean;
  before: Place<Item> | undefined;
  behind: Place<Item> | undefined;
}

/**
 * Queues items in order of arrival. Removal from the head or the middle takes constant time,
 * whatever the length. (A Set does not give that: its iterator walks over every item that was
 * removed from its head.)
 */
export class CallQueue<Item extends Sized> {
  #head: Place<Item> | undefined;
  #tail: Place<Item> | undefined;

  constructor(private readonly room: QueueRoom) {}

  /** The item that has waited longest. */
  get first(): Place<Item> | undefined {
    return this.#head;
  }

  /** @throws CairnError QUEUE_FULL */
  add(item: Item): Place<Item> {
    this.room.take(item.bytes);
    const place = { item, isTaken: true, before: this.#tail, behind: undefined };
    if (this.#tail === undefined) this.#head = place;
    else this.#tail.behind = place;
    this.#tail = place;
    return place;
  }

  /** Removes an item. May be called more than once. */
  remove(place: Place<Item>): void {
    if (!place.isTaken) return;
    place.isTaken = false;
    const { before, behind } = place;
    if (before === undefined) this.#head = behind;
    else before.behind = behind;
    if (behind === undefined) this.#tail = before;
    else behind.before = before;
    this.room.giveBack(place.item.bytes);
  }
}

function queueFull(limit: "clientQueueCalls" | "clientQueueBytes", waiting: string): CairnError {
  const text = `${waiting} wait in this client; the limit ${limit} is ${limits[limit]}`;
  return overLimit("QUEUE_FULL", limit, `${text}: await some calls before you make more`);
}
