import { assert } from "../../base/assert.js";
import { limits } from "../../base/limits.js";
import type { LogPosition } from "../../raft/types.js";
import { blocksOf, unlessAborted } from "../kv/payload_blocks.js";
import type { SessionLimits } from "../kv/session_limits.js";
import type { Exchange } from "./exchange.js";
import type { TaskReply } from "./messages.js";

// Restores a snapshot through the worker thread.

/** Destination of a payload. */
export interface RestoreTarget {
  /** Path of the environment, whose files are made but which was never opened. */
  readonly path: string;
  readonly at: LogPosition;
  readonly sessionLimits: SessionLimits;
}

/**
 * Has the worker restore a payload into a new environment. Throws the error of the payload, the
 * exchange or the signal.
 */
export async function restoreInWorker(
  target: RestoreTarget,
  payload: AsyncIterable<Uint8Array>,
  exchange: Exchange,
  signal: AbortSignal,
): Promise<void> {
  exchange.post({ type: "restore", ...target });
  const sender = new BlockSender(exchange);
  const pieces = unlessAborted(payload, AbortSignal.any([signal, exchange.failed]));
  for await (const block of blocksOf(pieces, limits.payloadSliceBytes)) await sender.send(block);
  exchange.post({ type: "finish" });
  // Buffers come back until then.
  while ((await exchange.next()).type !== "restored");
}

/** Sends blocks as far as there are buffers, and resumes as they come back. */
class BlockSender {
  readonly #free: ArrayBuffer[] = [];
  #made = 0;

  constructor(private readonly exchange: Exchange) {}

  async send(block: Uint8Array): Promise<void> {
    const buffer = await this.#buffer();
    new Uint8Array(buffer).set(block);
    this.exchange.post({ type: "block", buffer, bytes: block.byteLength }, [buffer]);
  }

  async #buffer(): Promise<ArrayBuffer> {
    while (this.exchange.hasReply) this.#free.push(bufferOf(await this.exchange.next()));
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#made === limits.workerBuffers) return bufferOf(await this.exchange.next());
    this.#made++;
    return new ArrayBuffer(limits.payloadSliceBytes);
  }
}

function bufferOf(reply: TaskReply): ArrayBuffer {
  assert(reply.type === "taken", "a block is answered by its buffer", { type: reply.type });
  return reply.buffer;
}
