// Shows the keys, leases and queues of the key-value store, as this node has applied them.
import type { KeyValueMachine } from "../machine/kv/key_value_machine.js";
import type { KeyEntry } from "../machine/kv/record_store.js";
import type { StateMachine } from "../machine/state_machine.js";
import type { ShownKey, ShownKeys, ShownLeases, ShownQueue } from "./feed/shown.js";

/** Rows of one answer. */
const ROWS = 50;

/** Keys of a queue kind that are looked at. */
const QUEUE_KEYS = 1_000;

/** Bytes of a value that are shown as text, and of one that is no text. */
const PREVIEW_BYTES = 120;
const PREVIEW_HEX_BYTES = 32;

/** Returns the machine as a key-value machine; undefined for an application's own. */
export function browsable(machine: StateMachine | undefined): KeyValueMachine | undefined {
  return machine !== undefined && "leaseKeys" in machine && "range" in machine
    ? (machine as KeyValueMachine)
    : undefined;
}

/** Returns keys that start with `prefix` and lie above `after`. */
export function shownKeys(machine: KeyValueMachine, prefix: Uint8Array, after: Uint8Array): ShownKeys {
  const found: ShownKey[] = [];
  // One value at a time: all of them may be a hundred megabytes.
  for (const entry of machine.range({ prefix, after, limit: ROWS + 1 })) found.push(shownKey(entry));
  return { appliedIndex: machine.appliedIndex, keys: found.slice(0, ROWS), hasMore: found.length > ROWS };
}

/** Returns the leases above `after`, and the queues of locks, elections and jobs. */
export function shownLeases(machine: KeyValueMachine, after: number): ShownLeases {
  const found = machine.leases(after, ROWS + 1);
  const leases = found.slice(0, ROWS).map(({ id, ttlMs, keepAlives, keys }) => ({ id, ttlMs, keepAlives, keys }));
  const queues = ["lock", "election", "once"].flatMap((kind) => shownQueues(machine, kind));
  return { leases, hasMore: found.length > ROWS, queues };
}

function shownKey({ key, value, version, createVersion, lease }: KeyEntry): ShownKey {
  const bytes = value.byteLength;
  return {
    key: textOf(key),
    id: Buffer.from(key).toString("base64url"),
    version,
    createVersion,
    bytes,
    preview: previewOf(value),
    lease,
  };
}

function previewOf(value: Uint8Array): string {
  const text = textOf(value.subarray(0, PREVIEW_BYTES));
  const isHex = text.startsWith("0x") && text.length === 2 + 2 * Math.min(value.byteLength, PREVIEW_BYTES);
  if (isHex && value.byteLength > PREVIEW_HEX_BYTES) return `${text.slice(0, 2 + 2 * PREVIEW_HEX_BYTES)}…`;
  return value.byteLength > PREVIEW_BYTES ? `${text}…` : text;
}

function shownQueues(machine: KeyValueMachine, kind: string): ShownQueue[] {
  const queues = new Map<string, ShownQueue>();
  for (const entry of machine.range({ prefix: Buffer.from(`_${kind}/`), limit: QUEUE_KEYS })) {
    const [, name] = Buffer.from(entry.key).toString().split("/");
    if (name !== undefined && entry.lease !== undefined)
      queues.set(name, withPlace(kind, name, entry, queues.get(name)));
  }
  return [...queues.values()];
}

/** Returns a queue with one more place: the one that was created first has it. */
function withPlace(
  kind: string,
  name: string,
  { createVersion: token, value }: KeyEntry,
  queue: ShownQueue | undefined,
): ShownQueue {
  const waiting = queue === undefined ? 0 : queue.waiting + 1;
  if (queue !== undefined && queue.token <= token) return { ...queue, waiting };
  return { kind, name: decoded(name), holder: textOf(value.subarray(0, PREVIEW_BYTES)), token, waiting };
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Returns bytes as text; as hexadecimal digits where they are not printable UTF-8. */
function textOf(bytes: Uint8Array): string {
  try {
    const text = utf8.decode(wholeCharacters(bytes));
    if (!/[\p{Cc}\p{Cn}]/u.test(text.replaceAll(/[\n\t]/g, ""))) return text;
  } catch {
    // Not text.
  }
  return bytes.byteLength === 0 ? "" : `0x${Buffer.from(bytes).toString("hex")}`;
}

/** Leaves out a character that a cut has left incomplete at the end. */
function wholeCharacters(bytes: Uint8Array): Uint8Array {
  let end = bytes.byteLength;
  for (let back = 1; back <= Math.min(3, end); back++) {
    const byte = bytes[end - back]!;
    if ((byte & 0b1100_0000) === 0b1000_0000) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    if (length > back) end -= back;
    break;
  }
  return bytes.subarray(0, end);
}
