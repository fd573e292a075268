import { setImmediate as nextTurn } from "node:timers/promises";
import { assert } from "../core/invariants.js";
import { limits } from "../core/limits.js";
import type { LogPosition } from "../core/types.js";
import type { LmdbEnvironment } from "./lmdb_environment.js";
import { blocksOf, unlessAborted } from "./payload_blocks.js";
import { PayloadDecoder, type PayloadSink } from "./payload_decoder.js";
import type { SessionHead, SessionLimits } from "./sessions.js";

/**
 * Puts a payload into a new environment, a block to a transaction and a turn of the event loop. Throws CairnError CORRUPT, DISK_FULL,
 * or what the payload or the signal throws; the environment is then of no use.
 */
export async function fill(
  environment: LmdbEnvironment,
  payload: AsyncIterable<Uint8Array>,
  at: LogPosition,
  sessionLimits: SessionLimits,
  signal: AbortSignal,
): Promise<void> {
  const decoder = new PayloadDecoder(at, sessionLimits, sinkInto(environment));
  for await (const block of blocksOf(unlessAborted(payload, signal), limits.payloadSliceBytes)) {
    environment.transaction(() => decoder.push(block));
    await nextTurn();
  }
  decoder.finish();
  environment.transaction(() => environment.writeApplied(at));
}

function sinkInto({ records, sessions }: LmdbEnvironment): PayloadSink {
  let clientId = "";
  return {
    key: (key, record) => assert(records.append(key, record), "a payload's keys ascend"),
    session: (head: SessionHead) => {
      clientId = head.clientId;
      sessions.putSession(head);
    },
    answer: (sequence, answer) => sessions.putAnswer(clientId, sequence, answer),
  };
}
