import type { KeyValue as KeyValueMessage, WatchEvent as WatchEventMessage } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../base/errors.js";
import { type KeyValue, keyValueOf, StoredValue } from "../values.js";
import { tokenOf } from "./watch_position.js";

// The events of a watch, and how they are made of the messages of a node.

/** The part that all changes have. */
export interface WatchChange {
  /** The key as UTF-8; for a key that is not UTF-8, use `keyBytes`. */
  readonly key: string;
  readonly keyBytes: Uint8Array;
  /** Index of the entry that made the change: of a key that was set, its version. */
  readonly index: number;
  /**
   * Resumes a watch of the same keys behind this event, at any node, as `from`. While `more` events
   * of the index follow, it resumes before the index, so that none of them is lost.
   */
  readonly token: string;
  /** Whether further events of the index follow: a transaction changes several keys at once. */
  readonly more: boolean;
  /**
   * With the option `previous`: the value before the change. Undefined when the key did not exist,
   * or the node does not know it any more; see `previousKnown`.
   */
  readonly previous: StoredValue | undefined;
  /** With the option `previous`: whether `previous` is known. */
  readonly previousKnown: boolean;
}

/** A key was set. */
export interface WatchPut extends WatchChange {
  readonly type: "put";
  readonly value: StoredValue;
  /** Whether the change created the key. */
  readonly created: boolean;
  /** The lease that the key is attached to now. */
  readonly leaseId: number | undefined;
}

/** A key was removed. */
export interface WatchDelete extends WatchChange {
  readonly type: "delete";
  /** Whether it was removed because its lease has expired. */
  readonly expired: boolean;
  /** The lease together with which it was removed. */
  readonly leaseId: number | undefined;
}

/** With `initial`: a key that existed when the keys were listed. They come in their order. */
export interface WatchExisting {
  readonly type: "existing";
  /** The key as UTF-8; for a key that is not UTF-8, use `keyBytes`. */
  readonly key: string;
  readonly keyBytes: Uint8Array;
  readonly value: KeyValue;
  /** The lease that the key is attached to. */
  readonly leaseId: number | undefined;
}

/** With `initial`: all existing keys have been yielded. Each change after `index` follows. */
export interface WatchListed {
  readonly type: "listed";
  /** Index of the state that was listed. */
  readonly index: number;
  /** Resumes behind the list, without it. */
  readonly token: string;
}

/**
 * With `initial`: the history is gone, or the list broke off. All existing keys follow anew. A key
 * that is not among them until `listed` was removed meanwhile.
 */
export interface WatchRestarted {
  readonly type: "restarted";
  readonly reason: CairnError;
}

/** With `progressMs`: every change up to `index` has been yielded. */
export interface WatchProgress {
  readonly type: "progress";
  readonly index: number;
  readonly token: string;
}

/** An event of a watch: {@link CairnClient.watch}. */
export type WatchEvent = WatchPut | WatchDelete | WatchExisting | WatchListed | WatchRestarted | WatchProgress;

/**
 * Returns the change that a message reports. Copies the bytes, which are views of the whole
 * message.
 */
export function changeOf(message: WatchEventMessage, clusterId: string, more: boolean): WatchPut | WatchDelete {
  const { kv, deleted, expired, leaseId, previous, previousKnown } = message;
  const index = Number(message.index);
  const keyBytes = Buffer.from(keyValueIn(kv).key);
  const change = {
    key: keyBytes.toString("utf8"),
    keyBytes,
    index,
    token: tokenOf({ clusterId, through: more ? index - 1 : index }),
    more,
    previous:
      previous === undefined ? undefined : new StoredValue(Buffer.from(previous.value), Number(previous.version)),
    previousKnown,
    leaseId: Number(leaseId) || undefined,
  };
  if (deleted) return { type: "delete", ...change, expired };
  const { value, createVersion } = keyValueIn(kv);
  return {
    type: "put",
    ...change,
    value: new StoredValue(Buffer.from(value), index),
    created: Number(createVersion) === index,
  };
}

/** Returns the event for a key that exists. */
export function existingOf(message: KeyValueMessage): WatchExisting {
  const value = keyValueOf(message);
  const { key, keyBytes } = value;
  return { type: "existing", key, keyBytes, value, leaseId: Number(message.leaseId) || undefined };
}

function keyValueIn(kv: KeyValueMessage | undefined): KeyValueMessage {
  if (kv !== undefined) return kv;
  throw new CairnError("INTERNAL", "the node reported a change without its key");
}
