import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { onTestFinished } from "vitest";
import { type KeepAliveRequest, type KeepAliveResponseSchema, LeaseService } from "../../../gen/cairn/v1/lease_pb.js";
import { CairnError, type CairnErrorCode } from "../../../src/base/errors.js";
import { serverOptions } from "../../../src/rpc/grpc_options.js";
import { addService } from "../../../src/rpc/server.js";
import { deferred } from "../../support/conditions.js";
import { listen } from "../../support/nodes/loopback.js";

type Answer = MessageInitShape<typeof KeepAliveResponseSchema>;

/** A server that plays the leases of a cluster: it records keep-alives, and answers as told. */
export class FakeLeases {
  /** Leases that exist, with their time to live. */
  readonly leases = new Map<bigint, number>();
  /** Keep-alive requests that have arrived, over all streams. */
  readonly kept: bigint[][] = [];
  readonly revoked: bigint[] = [];
  /** Keep-alive streams that were opened, and those that are open. */
  opened = 0;
  open = 0;
  /** False: keep-alives are taken and not answered. */
  answers = true;
  /** Ends every stream with this error. */
  refuseStreams: CairnErrorCode | undefined;
  /** The next grants, whose leases are made, fail with this error. */
  grantFailures: CairnErrorCode[] = [];
  /** Calls are answered when this is. */
  callsWaitFor: Promise<void> = Promise.resolve();
  #lastId = 0n;
  #ended = deferred<"end">();

  private constructor(
    readonly server: grpc.Server,
    public address: string,
  ) {}

  static async start(lastId = 0n): Promise<FakeLeases> {
    const server = new grpc.Server(serverOptions);
    const node = new FakeLeases(server, "");
    node.#lastId = lastId;
    addService(server, LeaseService, {
      grant: ({ ttlMs }) => node.#grant(ttlMs),
      keepAlive: (requests) => node.#keepAlive(requests),
      revoke: async ({ leaseId }) => {
        await node.callsWaitFor;
        node.revoked.push(leaseId);
        if (!node.leases.delete(leaseId)) throw new CairnError("LEASE_NOT_FOUND", "as the test wants it");
        return { deleted: 1n };
      },
    });
    node.address = await listen(server, "127.0.0.1:0");
    onTestFinished(() => server.forceShutdown());
    return node;
  }

  /** Shares the leases of another node. */
  joinTo(other: FakeLeases): void {
    Object.defineProperty(this, "leases", { value: other.leases });
  }

  /** Ends the streams that are open, without an error. */
  endStreams(): void {
    this.#ended.resolve("end");
    this.#ended = deferred();
  }

  async #grant(ttlMs: number) {
    await this.callsWaitFor;
    this.leases.set(++this.#lastId, ttlMs);
    const failure = this.grantFailures.shift();
    if (failure !== undefined) throw new CairnError(failure, "as the test wants it");
    return { leaseId: this.#lastId, ttlMs };
  }

  async *#keepAlive(requests: AsyncIterable<KeepAliveRequest>): AsyncGenerator<Answer> {
    if (this.refuseStreams !== undefined) throw new CairnError(this.refuseStreams, "as the test wants it");
    this.opened++;
    this.open++;
    const ended = this.#ended.promise;
    try {
      const messages = requests[Symbol.asyncIterator]();
      for (;;) {
        const next = await Promise.race([messages.next(), ended]);
        if (next === "end" || next.done === true) return;
        const { leaseIds } = next.value;
        this.kept.push([...leaseIds]);
        if (!this.answers) continue;
        yield { leases: leaseIds.map((leaseId) => ({ leaseId, found: this.leases.has(leaseId) })) };
      }
    } finally {
      this.open--;
    }
  }
}
