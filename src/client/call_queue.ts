import { CairnError } from "../base/errors.js";
import { limits } from "../base/limits.js";

/**
 * Counts the calls that wait in one client, over all of its queues, and refuses those that are too
 * many.
 */
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

/** Something that waits. Its size is about how many bytes it takes in a message. */
interface Sized {
  readonly bytes: number;
}

/** Place of one item in a {@link CallQueue}. */
export interface Place<Item> {
  readonly item: Item;
  /** Becomes false when the item has left. */
  isTaken: boolean;
  before: Place<Item> | undefined;
  behind: Place<Item> | undefined;
}

/**
 * Queue in order of arrival. An item leaves the head or the middle in constant time, however long
 * the queue is. (A Set does not: its iterator walks over everything that was removed from its
 * head.)
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

  /** May be called more than once. */
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
  return new CairnError("QUEUE_FULL", `${text}: await some calls before you make more`);
}
