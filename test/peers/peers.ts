import type { MessageInitShape } from "@bufbuild/protobuf";
import type * as grpc from "@grpc/grpc-js";
import { onTestFinished } from "vitest";
import {
  type AppendEntriesRequest,
  type AppendEntriesResponseSchema,
  RaftService,
} from "../../gen/cairn/v1/raft_pb.js";
import { type GrpcTransportOptions, grpcTransport } from "../../src/peers/grpc_transport.js";
import type { Peer, Transport } from "../../src/peers/transport.js";
import type { PeerAnswer, PeerAppend } from "../../src/raft/messages.js";
import { addService, type ServiceImplementation } from "../../src/rpc/server.js";
import { putEntries } from "../support/nodes/acting_leader.js";

export const CLUSTER = "cluster-1";

/** AppendEntries without entries, from n9 to n1. */
export function heartbeat(round: number, term = 1): PeerAppend {
  const prev = { index: 0, term: 0 };
  return { type: "append_entries", from: "n9", to: "n1", term, prev, entries: [], leaderCommit: 0, round };
}

/** AppendEntries with the entries from `first` to `last`; `bytes`: size of each one's data, in place of a real command. */
export function withEntries(round: number, first: number, last: number, term = 1, bytes?: number): PeerAppend {
  const entries = putEntries(first, last, term);
  const sized = entries.map((entry) => (bytes === undefined ? entry : { ...entry, data: new Uint8Array(bytes) }));
  const prev = first === 1 ? { index: 0, term: 0 } : { index: first - 1, term };
  return { ...heartbeat(round, term), prev, entries: sized };
}

/** What the node n9, which sends, learns of its transport. */
export class Sender {
  readonly answers: PeerAnswer[] = [];
  /** Peers that were reported as unreachable, each time. */
  readonly unreachable: string[] = [];
  /** What broke, and "mended". */
  readonly changes: string[] = [];
  readonly transport: Transport;

  /** It belongs to the test. */
  constructor(
    readonly peer: Peer,
    options: GrpcTransportOptions = {},
  ) {
    this.transport = grpcTransport({
      onChange: (_peer, error) => void this.changes.push(error?.message ?? "mended"),
      ...options,
    })(
      { id: "n9", clusterId: CLUSTER },
      {
        answer: (answer) => void this.answers.push(answer),
        unreachable: (id) => void this.unreachable.push(id),
      },
    );
    onTestFinished(() => this.transport.close());
  }

  send(message: PeerAppend): void {
    this.transport.send(this.peer, message);
  }

  /** Rounds of the AppendEntries that were answered. */
  get rounds(): number[] {
    return this.answers.flatMap((answer) => (answer.type === "append_entries_answer" ? [answer.request.round] : []));
  }

  /** Sends a heartbeat every few milliseconds until the condition holds, as a leader does. Rounds go on from `round`. */
  async beatUntil(condition: () => boolean, round = 1_000): Promise<void> {
    for (let next = round; !condition(); next++) {
      this.send(heartbeat(next));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

export type AppendAnswer = MessageInitShape<typeof AppendEntriesResponseSchema>;

/** Accepts entries, without keeping them. */
export function accepted({ term, prevLogIndex, entries, round }: AppendEntriesRequest): AppendAnswer {
  const matchIndex = prevLogIndex + BigInt(entries.length);
  return { term, success: true, matchIndex, lastLogIndex: matchIndex, round };
}

/** A peer whose AppendEntries streams are dealt with by `handle`; other methods as given. */
export function scriptedPeer(
  handle: (requests: AsyncIterable<AppendEntriesRequest>) => AsyncIterable<AppendAnswer>,
  others: ServiceImplementation<typeof RaftService> = {},
) {
  return (server: grpc.Server) =>
    addService(server, RaftService, { appendEntries: (requests) => handle(requests), ...others });
}
