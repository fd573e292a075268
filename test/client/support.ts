import { once } from "node:events";
import net from "node:net";
import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { onTestFinished } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import {
  KeyValueService,
  type SessionAnswerSchema,
  type SessionCall,
  type SessionRequest,
} from "../../gen/cairn/v1/kv_pb.js";
import { CairnError, type CairnErrorCode } from "../../src/base/errors.js";
import { CairnClient } from "../../src/client/client.js";
import type { ClientOptions } from "../../src/client/options.js";
import { serverOptions } from "../../src/rpc/grpc_options.js";
import { addService } from "../../src/rpc/server.js";
import { deferred } from "../support/conditions.js";
import { listen } from "../support/nodes/loopback.js";
import { CLUSTER } from "../support/nodes/nodes.js";

export type AnswerInit = MessageInitShape<typeof SessionAnswerSchema>;
type Answer = NonNullable<AnswerInit["answer"]>;

/** Codes of what was rejected, and "ok", with how often they came. */
export async function outcomes(calls: readonly Promise<unknown>[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const outcome of await Promise.allSettled(calls)) {
    const code = outcome.status === "fulfilled" ? "ok" : (outcome.reason as CairnError).code;
    counts[code] = (counts[code] ?? 0) + 1;
  }
  return counts;
}

/** A client that is closed when the test ends. */
export function clientOf(endpoints: string | readonly string[], options: Partial<ClientOptions> = {}): CairnClient {
  const client = new CairnClient({ endpoints: typeof endpoints === "string" ? [endpoints] : endpoints, ...options });
  onTestFinished(() => client.close());
  return client;
}

/** A server that plays a node: it records what it is sent in sessions, and answers as told. */
export class FakeNode {
  /** All messages, over all streams. */
  readonly messages: SessionRequest[] = [];
  /** Streams that were opened, and those that are open. */
  opened = 0;
  open = 0;
  /** Ranges that are being read. */
  openRanges = 0;
  /** Reads outside of sessions that have arrived. */
  gets = 0;
  /** Such a read is answered when this is. */
  getsWaitFor: Promise<void> = Promise.resolve();
  /** Times that it was asked for its status. */
  probes = 0;
  clusterId = CLUSTER;
  /** Whom it names as the leader. Default: itself. */
  leader: { id: string; address: string } | undefined;
  /** What it answers to the calls of a message; undefined: nothing, now or later. */
  answer: (call: SessionCall) => Answer | undefined = acknowledge;
  /** Number of answers that it says the cluster remembers of a client; 0: it does not say. */
  rememberedWrites = 0;
  /** Goes along with the next answers. */
  extraAnswers: AnswerInit[] = [];
  /** False: it says nothing to a first message. */
  greets = true;
  /** It does not answer when it is asked for its status. */
  isHung = false;
  /** Ends every stream with this error. */
  refuseStreams: CairnErrorCode | undefined;
  readonly #ends = new Set<() => void>();
  #speaks = deferred<"speaks">();

  private constructor(
    readonly id: string,
    readonly server: grpc.Server,
    public address: string,
  ) {
    this.leader = { id, address };
  }

  static async start(id: string, address = "127.0.0.1:0"): Promise<FakeNode> {
    const server = new grpc.Server(serverOptions);
    const node = new FakeNode(id, server, address);
    addService(server, KeyValueService, {
      session: (requests) => node.#serve(requests),
      range: (_request, { signal }) => node.#range(signal),
      get: () => node.#get(),
    });
    addService(server, AdminService, { getStatus: () => node.#status() });
    node.address = await listen(server, address);
    node.leader = { id, address: node.address };
    onTestFinished(() => server.forceShutdown());
    return node;
  }

  /** All calls that have arrived, over all streams. */
  get calls(): SessionCall[] {
    return this.messages.flatMap(({ calls }) => calls);
  }

  get sequences(): number[] {
    return this.calls.map(({ sequence }) => Number(sequence));
  }

  /** Cuts all connections and answers no more. */
  kill(): void {
    this.server.forceShutdown();
  }

  /** Sends answers now, without having been asked. */
  say(answers: readonly AnswerInit[]): void {
    this.extraAnswers.push(...answers);
    this.#speaks.resolve("speaks");
    this.#speaks = deferred();
  }

  /** Ends the streams that are open, without an error. */
  endStreams(): void {
    for (const end of [...this.#ends]) end();
  }

  async *#serve(requests: AsyncIterable<SessionRequest>) {
    if (this.refuseStreams !== undefined) throw new CairnError(this.refuseStreams, "as the test wants it");
    this.opened++;
    this.open++;
    let end = () => {};
    const ended = new Promise<undefined>((resolve) => {
      end = () => resolve(undefined);
    });
    this.#ends.add(end);
    try {
      const messages = requests[Symbol.asyncIterator]();
      let pending = messages.next();
      for (let isFirst = true; ; isFirst = false) {
        const next = await Promise.race([pending, ended, this.#speaks.promise]);
        if (next === "speaks") {
          yield { header: this.#header(), answers: this.extraAnswers.splice(0) };
          continue;
        }
        if (next === undefined || next.done === true) return;
        pending = messages.next();
        this.messages.push(next.value);
        const answers: AnswerInit[] = next.value.calls.flatMap((call) => {
          const answer = this.answer(call);
          return answer === undefined ? [] : [{ sequence: call.sequence, answer }];
        });
        answers.push(...this.extraAnswers.splice(0));
        if ((isFirst && this.greets) || answers.length > 0) {
          yield { header: this.#header(), answers, rememberedWrites: isFirst ? this.rememberedWrites : 0 };
        }
      }
    } finally {
      this.open--;
      this.#ends.delete(end);
    }
  }

  /** The key k1, and then nothing more for ever. */
  async *#range(signal: AbortSignal) {
    this.openRanges++;
    try {
      yield { header: this.#header(), kvs: [{ key: Buffer.from("k1") }] };
      await once(signal, "abort");
    } finally {
      this.openRanges--;
    }
  }

  async #get() {
    this.gets++;
    await this.getsWaitFor;
    return { header: this.#header() };
  }

  #status() {
    this.probes++;
    if (this.isHung) return new Promise<never>(() => {});
    return Promise.resolve({ nodeId: this.id, leaderId: this.leader?.id ?? "" });
  }

  #header() {
    const { id = "", address = "" } = this.leader ?? {};
    return { clusterId: this.clusterId, nodeId: this.id, leaderId: id, leaderAddress: address };
  }
}

/** What a node that carries out everything answers. A put's version is its sequence. */
export function acknowledge({ sequence, call }: SessionCall): Answer {
  switch (call.case) {
    case "get":
      return { case: "get", value: {} };
    case "delete":
      return { case: "delete", value: { deleted: true } };
    case "compareAndSet":
      return { case: "compareAndSet", value: { swapped: true, version: sequence } };
    default:
      return { case: "put", value: { version: sequence } };
  }
}

export function refuse(
  code: CairnErrorCode | string,
  more: { retryable?: boolean; leaderId?: string; leaderAddress?: string; retryAfterMs?: number; since?: bigint } = {},
): Answer {
  return { case: "error", value: { code, message: "as the test wants it", ...more } };
}

/** A relay of TCP connections that the test can cut, and whose answers it can hold back. */
export class Relay {
  readonly #server: net.Server;
  readonly #pairs = new Set<{ client: net.Socket; server: net.Socket }>();
  /** Connections that were made. */
  connections = 0;
  #answersHeld = false;

  private constructor(server: net.Server) {
    this.#server = server;
  }

  static async to(target: string): Promise<Relay> {
    const [host, port] = target.split(":") as [string, string];
    const server = net.createServer();
    const relay = new Relay(server);
    server.on("connection", (client) => relay.#relay(client, net.connect(Number(port), host)));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => relay.close());
    return relay;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  /** What servers say is kept back, and lost if the connection is cut, until {@link passAnswers}. */
  holdAnswers(): void {
    this.#answersHeld = true;
    for (const { server } of this.#pairs) server.pause();
  }

  passAnswers(): void {
    this.#answersHeld = false;
    for (const { server } of this.#pairs) server.resume();
  }

  /** Cuts all connections, as when a cable is pulled and both ends notice. */
  cut(): void {
    for (const { client, server } of this.#pairs) {
      client.destroy();
      server.destroy();
    }
    this.#pairs.clear();
  }

  /** Cuts all connections, and takes no more. May be called more than once. */
  async close(): Promise<void> {
    this.cut();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  #relay(client: net.Socket, server: net.Socket): void {
    const pair = { client, server };
    this.connections++;
    this.#pairs.add(pair);
    client.setNoDelay();
    server.setNoDelay();
    client.on("data", (bytes) => server.write(bytes));
    server.on("data", (bytes) => client.write(bytes));
    if (this.#answersHeld) server.pause();
    for (const [end, other] of [
      [client, server],
      [server, client],
    ] as const) {
      end.on("error", () => {});
      end.on("close", () => {
        other.destroy();
        this.#pairs.delete(pair);
      });
    }
  }
}

/** An address at which nobody listens. */
export async function deadAddress(): Promise<string> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, "close");
  return `127.0.0.1:${port}`;
}
