import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  KeyValueService,
  SessionAnswer,
  SessionCallSchema,
  SessionError,
  SessionRequestSchema,
  SessionResponse,
} from "../../gen/cairn/v1/kv_pb.js";
import type { BidiStream, Client } from "../../src/rpc/client.js";
import { bytes } from "../support/nodes/acting_leader.js";

type Request = MessageInitShape<typeof SessionRequestSchema>;
export type CallInit = MessageInitShape<typeof SessionCallSchema>;

/** A Session stream in the hands of a test, which sends messages as it likes. */
export class RawSession {
  readonly stream: BidiStream<Request, SessionResponse>;
  readonly #responses: AsyncIterator<SessionResponse>;
  /** Number of messages that have been read. */
  messages = 0;
  readonly answers = new Map<number, SessionAnswer["answer"]>();

  constructor(
    kv: Client<typeof KeyValueService>,
    readonly clientId = "c1",
  ) {
    this.stream = kv.session();
    this.#responses = this.stream.responses[Symbol.asyncIterator]();
  }

  send(
    calls: readonly CallInit[],
    more: { acknowledgedThrough?: bigint; clusterId?: string; since?: bigint } = {},
  ): Promise<void> {
    return this.stream.send({ clientId: this.clientId, calls: [...calls], ...more });
  }

  /** The next message; undefined at the end. */
  async next(): Promise<SessionResponse | undefined> {
    const { done, value } = await this.#responses.next();
    if (done === true) return undefined;
    this.messages++;
    for (const { sequence, answer } of (value as SessionResponse).answers) this.answers.set(Number(sequence), answer);
    return value;
  }

  /** Reads until a call is answered. */
  async answerTo(sequence: number): Promise<SessionAnswer["answer"]> {
    while (!this.answers.has(sequence)) {
      if ((await this.next()) === undefined) throw new Error(`the stream ended without an answer to ${sequence}`);
    }
    return this.answers.get(sequence)!;
  }

  /** The error that a call is answered with. */
  async errorOf(sequence: number): Promise<SessionError> {
    const answer = await this.answerTo(sequence);
    if (answer.case !== "error") throw new Error(`call ${sequence} was answered with ${answer.case}`);
    return answer.value;
  }

  /** Reads to the end. */
  async end(): Promise<void> {
    this.stream.end();
    while ((await this.next()) !== undefined);
  }
}

export function putCall(sequence: number, key: string, value: string | Uint8Array = ""): CallInit {
  const data = typeof value === "string" ? bytes(value) : value;
  return { sequence: BigInt(sequence), call: { case: "put", value: { key: bytes(key), value: data } } };
}

export function getCall(
  sequence: number,
  key: string,
  more: { stale?: boolean; minAppliedIndex?: bigint } = {},
): CallInit {
  return { sequence: BigInt(sequence), call: { case: "get", value: { key: bytes(key), ...more } } };
}

export function deleteCall(sequence: number, key: string): CallInit {
  return { sequence: BigInt(sequence), call: { case: "delete", value: { key: bytes(key) } } };
}
