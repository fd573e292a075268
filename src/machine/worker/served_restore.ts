import { assert } from "../../base/assert.js";
import { sentError } from "../../base/sent_error.js";
import type { LogPosition } from "../../raft/types.js";
import { PayloadDecoder, type PayloadSink } from "../kv/payload_decoder.js";
import type { SessionLimits } from "../kv/session_limits.js";
import type { SessionHead } from "../kv/sessions.js";
import { spaceForBlock } from "../lmdb/disk_space.js";
import { LmdbEnvironment } from "../lmdb/environment.js";
import type { TaskRequest } from "./messages.js";
import type { SendReply, ServedTask } from "./served_task.js";

/**
 * A state that is being restored, on the worker's side: a new environment that takes the blocks of
 * a payload, one in each transaction.
 */
export class ServedRestore implements ServedTask {
  readonly #decoder: PayloadDecoder;
  readonly #sink: PayloadSink & { finish(): void };
  #hasFailed = false;
  #closed: Promise<void> | undefined;

  private constructor(
    private readonly at: LogPosition,
    sessionLimits: SessionLimits,
    private readonly environment: LmdbEnvironment,
    private readonly reply: SendReply,
  ) {
    this.#sink = sinkInto(environment);
    this.#decoder = new PayloadDecoder(at, sessionLimits, this.#sink);
  }

  /** Throws CairnError DISK_FULL. */
  static open(request: TaskRequest & { type: "restore" }, reply: SendReply): ServedRestore {
    return new ServedRestore(request.at, request.sessionLimits, LmdbEnvironment.openPrepared(request.path), reply);
  }

  /**
   * Takes a block, or the end of the payload. Throws CairnError CORRUPT or DISK_FULL, once; the
   * environment is then useless.
   */
  handle(request: TaskRequest): void {
    if (this.#hasFailed) return;
    try {
      if (request.type === "block") this.#put(request.buffer, request.bytes);
      else if (request.type === "finish") this.#finish();
    } catch (error) {
      this.#hasFailed = true;
      throw error;
    }
  }

  release(): Promise<void> {
    this.#closed ??= this.environment.close();
    return this.#closed;
  }

  #put(buffer: ArrayBuffer, bytes: number): void {
    const block = new Uint8Array(buffer, 0, bytes);
    this.environment.transaction(() => this.#decoder.push(block), spaceForBlock(bytes));
    this.reply({ type: "taken", buffer }, [buffer]);
  }

  #finish(): void {
    this.#decoder.finish();
    this.environment.transaction(() => {
      this.#sink.finish();
      this.environment.effects.known = { since: this.at.index + 1, bytes: 0 };
      this.environment.writeApplied(this.at);
    });
    void this.release().then(
      () => this.reply({ type: "restored" }),
      (error) => this.reply({ type: "failed", error: sentError(error) }),
    );
  }
}

/** Writes the parts of a payload into an environment. `finish` ends the last session. */
function sinkInto({ records, sessions, leases }: LmdbEnvironment): PayloadSink & { finish(): void } {
  let head: SessionHead | undefined;
  const finish = () => {
    if (head !== undefined) sessions.putSession(head);
    head = undefined;
  };
  return {
    lease: (lease) => assert(leases.append(lease), "a payload's leases ascend"),
    key: (key, record) => {
      assert(records.append(key, record), "a payload's keys ascend");
      if (record.lease !== undefined) leases.addKey(record.lease, key);
    },
    sessionsHead: (head) => sessions.putSessionsHead(head),
    session: (next: SessionHead) => {
      finish();
      head = next;
    },
    answer: (sequence, answer) => {
      assert(head !== undefined, "an answer follows its session");
      sessions.putAnswer(head.clientId, sequence, Uint8Array.prototype.slice.call(answer));
    },
    finish,
  };
}
