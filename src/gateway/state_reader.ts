import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GetResponse, SessionAnswer, SessionRequestSchema, SessionResponse } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../base/errors.js";
import type { BidiStream } from "../rpc/client.js";
import { fromCallError } from "../rpc/status.js";
import type { GatewayNode } from "./nodes.js";
import { within } from "./within.js";

/** Number of reads in one message, so that their values do not fill the memory. */
const READS_AT_ONCE = 256;

interface ReadStream {
  readonly call: BidiStream<MessageInitShape<typeof SessionRequestSchema>, SessionResponse>;
  readonly responses: AsyncIterator<SessionResponse>;
}

/** Reads keys of a node's own state, many with one message of a stream. */
export class StateReader {
  #stream: ReadStream | undefined;
  #sequence = 0n;

  constructor(
    private readonly node: GatewayNode,
    private readonly timeoutMs: number,
  ) {}

  /**
   * Reads keys once the node has applied its log up to an index. Returns their records in the order
   * of the keys; undefined for a key that does not exist.
   */
  async read(keys: readonly Uint8Array[], minAppliedIndex: number): Promise<GetResponse["kv"][]> {
    const records: GetResponse["kv"][] = [];
    try {
      for (let from = 0; from < keys.length; from += READS_AT_ONCE) {
        records.push(...(await this.#readSome(keys.slice(from, from + READS_AT_ONCE), minAppliedIndex)));
      }
    } catch (error) {
      this.close();
      throw error;
    }
    return records;
  }

  /** Closes the stream; the next read opens a new one. */
  close(): void {
    this.#stream?.call.cancel();
    this.#stream = undefined;
  }

  async #readSome(keys: readonly Uint8Array[], minAppliedIndex: number): Promise<GetResponse["kv"][]> {
    this.#stream ??= this.#open();
    const { call, responses } = this.#stream;
    const first = this.#sequence + 1n;
    const calls = keys.map((key) => {
      const value = { key, stale: true, minAppliedIndex: BigInt(minAppliedIndex) };
      return { sequence: ++this.#sequence, call: { case: "get", value } as const };
    });
    await call.send({ clientId: "gateway", calls });
    const records = new Array<GetResponse["kv"]>(keys.length);
    for (let waiting = keys.length; waiting > 0; ) {
      const { done, value } = await within(this.timeoutMs, this.node.id, responses.next());
      if (done) throw new CairnError("UNREACHABLE", `node ${this.node.id} ended the stream of reads`);
      for (const answer of value.answers) records[Number(answer.sequence - first)] = recordOf(answer);
      waiting -= value.answers.length;
    }
    return records;
  }

  #open(): ReadStream {
    const call = this.node.kv.session();
    return { call, responses: call.responses[Symbol.asyncIterator]() };
  }
}

function recordOf({ answer }: SessionAnswer): GetResponse["kv"] {
  if (answer.case === "get") return answer.value.kv;
  if (answer.case === "error") throw fromCallError(answer.value);
  throw new CairnError("INTERNAL", `a read was answered with ${answer.case}`);
}
