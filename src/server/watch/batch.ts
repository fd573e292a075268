import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type WatchEventSchema, WatchResponseSchema } from "../../../gen/cairn/v1/kv_pb.js";
import { keyName } from "../../base/key_name.js";
import { limits } from "../../base/limits.js";
import type { ChangeHistory } from "../../machine/kv/effects/change_history.js";
import { type Change, changesOf } from "../../machine/kv/effects/changes.js";
import type { KeyRecord } from "../../machine/kv/record_store.js";
import type { Entry } from "../../raft/types.js";
import { encodeMessage } from "../../rpc/codec.js";
import type { SpanIndex } from "./span_index.js";
import type { WatchGroup } from "./watch_group.js";

/** A change within a batch. */
interface BatchedChange {
  readonly change: Change;
  /** The key as Latin-1 text. */
  readonly name: string;
  /** Number of the change among those of its entry. */
  readonly at: number;
}

/** An encoded answer. */
export interface WatchAnswer {
  /** Index of its first event. */
  readonly first: number;
  readonly through: number;
  /** Undefined when the changes of its one index do not fit a message, and can never be told. */
  readonly bytes: Buffer | undefined;
}

/** The changes of some consecutive entries, and the answers that tell watches of them. */
export class ChangeBatch {
  readonly #changes: BatchedChange[] = [];
  /** Answers for all the changes, by group. */
  readonly #answers = new Map<WatchGroup, WatchAnswer[]>();
  readonly first: number;
  readonly last: number;

  /** The entries are consecutive and applied, and their effects are known. */
  constructor(
    entries: readonly Entry[],
    private readonly history: ChangeHistory,
  ) {
    this.first = entries[0]!.index;
    this.last = entries.at(-1)!.index;
    const effects = history.effects([this.first, this.last]);
    for (const entry of entries) {
      for (const [at, change] of changesOf(entry, effects.get(entry.index)).entries()) {
        this.#changes.push({ change, at, name: keyName(change.key) });
      }
    }
  }

  /** Returns the groups of the index that are to be told of something, with their answers. */
  answersOf(index: SpanIndex): ReadonlyMap<WatchGroup, readonly WatchAnswer[]> {
    const found = new Map<WatchGroup, BatchedChange[]>();
    for (const each of this.#changes) {
      for (const group of index.find(each.name)) {
        if (!group.passes(each.change)) continue;
        const changes = found.get(group);
        if (changes === undefined) found.set(group, [each]);
        else changes.push(each);
      }
    }
    return new Map([...found].map(([group, changes]) => [group, this.#encode(group, changes)]));
  }

  /** Returns the answers for a group about the entries from `next` on. */
  answersFor(group: WatchGroup, next: number): readonly WatchAnswer[] {
    let answers = this.#answers.get(group);
    if (answers === undefined) {
      answers = this.#encode(
        group,
        this.#changes.filter(({ name, change }) => group.wants(name, change)),
      );
      this.#answers.set(group, answers);
    }
    const isCut = answers.some(({ first, through }) => first < next && through >= next);
    if (!isCut) return answers.filter(({ first }) => first >= next);
    const wanted = ({ name, change }: BatchedChange) => change.index >= next && group.wants(name, change);
    return this.#encode(group, this.#changes.filter(wanted));
  }

  /** Encodes changes as answers of bounded size. All changes of one index are in one answer. */
  #encode(group: WatchGroup, changes: readonly BatchedChange[]): WatchAnswer[] {
    const parts: { readonly first: number; readonly events: EventInit[] }[] = [];
    let bytes = 0;
    for (const ofIndex of byIndex(changes)) {
      const { events, bytes: added } = this.#eventsOf(group, ofIndex);
      const { index } = ofIndex[0]!.change;
      const part = parts.at(-1);
      if (part !== undefined && bytes + added <= limits.watchAnswerBytes) {
        part.events.push(...events);
        bytes += added;
      } else {
        parts.push({ first: index, events });
        bytes = added;
      }
    }
    return parts.map(({ first, events }, at) => {
      const behind = parts[at + 1]?.events[0];
      const through = behind === undefined ? this.last : Number(behind.index) - 1;
      return { first, through, bytes: answerWithin(limits.messageBytes, through, events) };
    });
  }

  #eventsOf({ filter }: WatchGroup, changes: readonly BatchedChange[]) {
    const { index } = changes[0]!.change;
    let before = filter.previous ? this.history.recordsBefore(index) : undefined;
    let bytes = changes.reduce((sum, { change }) => sum + changeBytes(change), 0);
    const beforeBytes = changes.reduce((sum, { change, at }) => sum + recordBytes(change, before?.[at]), 0);
    // One index is never split, so what it was before must not make it too large for a message.
    if (bytes + beforeBytes > limits.messageBytes / 2) before = undefined;
    else bytes += beforeBytes;
    return { bytes, events: changes.map(({ change, at }) => eventOf(change, before && { record: before[at] })) };
  }
}

/** Encodes a mark of progress: an answer without events. */
export function encodeProgress(through: number): Buffer {
  return encodeMessage(WatchResponseSchema, { through: BigInt(through) });
}

function answerWithin(most: number, through: number, events: EventInit[]): Buffer | undefined {
  const bytes = toBinary(WatchResponseSchema, create(WatchResponseSchema, { events, through: BigInt(through) }));
  return bytes.byteLength > most ? undefined : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

type EventInit = MessageInitShape<typeof WatchEventSchema> & { readonly index: bigint };

function eventOf(change: Change, before: { readonly record: KeyRecord | undefined } | undefined): EventInit {
  const { type, key, value } = change;
  const [index, leaseId] = [BigInt(change.index), BigInt(change.lease)];
  const previous = before?.record && {
    key,
    value: before.record.value,
    version: BigInt(before.record.version),
    createVersion: BigInt(before.record.createVersion),
  };
  const known = before === undefined ? {} : { previousKnown: true, ...(previous && { previous }) };
  if (type === "deleted") return { index, kv: { key }, deleted: true, expired: change.isExpired, leaseId, ...known };
  const createVersion = type === "created" ? index : 0n;
  return { index, kv: { key, value, version: index, createVersion, leaseId }, leaseId, ...known };
}

const EVENT_OVERHEAD_BYTES = 48;

function changeBytes({ key, value }: Change): number {
  return key.byteLength + value.byteLength + EVENT_OVERHEAD_BYTES;
}

function recordBytes({ key }: Change, record: KeyRecord | undefined): number {
  return record === undefined ? 0 : key.byteLength + record.value.byteLength + EVENT_OVERHEAD_BYTES;
}

function* byIndex(changes: readonly BatchedChange[]): Generator<BatchedChange[], void, undefined> {
  for (let from = 0, to = 0; from < changes.length; from = to) {
    while (to < changes.length && changes[to]!.change.index === changes[from]!.change.index) to++;
    yield changes.slice(from, to);
  }
}
