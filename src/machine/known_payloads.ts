import type { LogPosition } from "../raft/types.js";
import { InMemoryMachine } from "./in_memory_machine.js";
import { checkKeyValuePayload } from "./kv/payload_check.js";

// Checks snapshot payloads of Cairn's own state machines.

type Check = ReturnType<typeof InMemoryMachine.checkPayload>;

/** The first bytes of a payload name its kind of machine. */
const KIND_BYTES = 8;

/**
 * Begins a check of a payload of the key-value machine, or of a machine in memory. Checks all of
 * the former; of the latter, only its kind and its position. An application with its own format on
 * disk checks its payloads itself.
 */
export function checkKnownPayload(at: LogPosition): Check {
  let head: Uint8Array = Buffer.alloc(0);
  let check: Check | undefined;
  const begin = (): Check => {
    check = InMemoryMachine.isPayload(head) ? InMemoryMachine.checkPayload(at) : checkKeyValuePayload(at);
    check.push(head);
    return check;
  };
  return {
    push(piece) {
      if (check !== undefined) return check.push(piece);
      head = Buffer.concat([head, piece]);
      if (head.byteLength >= KIND_BYTES) begin();
    },
    finish: () => (check ?? begin()).finish(),
  };
}
