import type { StoreView } from "../../store/reads.js";
import type { KeyRangeOptions } from "../kv/key_value_machine.js";
import { copyOf, type KeyEntry } from "../kv/record_store.js";
import { behindPrefix } from "../kv/txn/key_span.js";
import { keyspace, recordOf, spaceStart } from "./keyspaces.js";

/** Yields the keys of a range, as a view has them, for the caller to keep. */
export function* entriesOf(
  view: StoreView,
  { prefix = NO_BYTES, after = NO_BYTES, limit = Number.POSITIVE_INFINITY }: KeyRangeOptions,
  onError: (error: unknown) => void,
): Generator<KeyEntry, undefined, undefined> {
  let left = limit;
  if (left <= 0) return;
  const behind = behindPrefix(prefix);
  const end = behind === undefined ? spaceStart(keyspace.key + 1) : row(behind);
  try {
    for (const each of view.range(row(startIn(prefix, after)), end)) {
      yield copyOf({ ...recordOf(each), key: Uint8Array.prototype.slice.call(each.key, 1) });
      left--;
      if (left <= 0) return;
    }
  } catch (error) {
    onError(error);
    throw error;
  }
}

const NO_BYTES = new Uint8Array(0);

/** No key lies between `after` and `after` with a zero byte behind it. */
function startIn(prefix: Uint8Array, after: Uint8Array): Uint8Array {
  return after.byteLength > 0 && Buffer.compare(after, prefix) >= 0 ? Buffer.concat([after, Buffer.alloc(1)]) : prefix;
}

function row(key: Uint8Array): Buffer {
  return Buffer.concat([spaceStart(keyspace.key), key]);
}
