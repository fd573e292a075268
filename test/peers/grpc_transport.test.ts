import { create } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  AppendEntriesRejection,
  type AppendEntriesRequest,
  RequestVoteResponseSchema,
} from "../../gen/cairn/v1/raft_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { toVoteAnswer } from "../../src/peers/protocol.js";
import { serverOptions } from "../../src/rpc/grpc_options.js";
import { awakeMs, deferred, until } from "../support/conditions.js";
import { listen, loopback, settled } from "../support/nodes/loopback.js";
import { serve } from "../support/nodes/served_node.js";
import { TcpProxy } from "../support/processes/tcp_proxy.js";
import { accepted, CLUSTER, heartbeat, Sender, scriptedPeer, withEntries } from "./peers.js";

/** Answers all, and keeps what it was asked. */
function acceptAll(seen: AppendEntriesRequest[] = []) {
  return scriptedPeer(async function* (requests) {
    for await (const request of requests) {
      seen.push(request);
      yield accepted(request);
    }
  });
}

async function senderTo(addServices: (server: grpc.Server) => void): Promise<Sender> {
  const { address } = await loopback(addServices);
  return new Sender({ id: "n1", address });
}

describe("the transport's AppendEntries messages", () => {
  test("go over one stream in order, and the first one names sender and receiver", async () => {
    const seen: AppendEntriesRequest[] = [];
    let streams = 0;
    const sender = await senderTo(
      scriptedPeer(async function* (requests) {
        streams += 1;
        for await (const request of requests) {
          seen.push(request);
          yield accepted(request);
        }
      }),
    );
    for (let round = 1; round <= 200; round++) sender.send(withEntries(round, round, round));
    await until(() => sender.answers.length === 200, "all are answered");
    expect(streams).toBe(1);
    expect(seen.map(({ round }) => Number(round))).toEqual(sender.rounds);
    expect(seen[0]!.header).toMatchObject({ protocolVersion: 2, clusterId: CLUSTER, senderId: "n9", receiverId: "n1" });
    expect(seen.slice(1).every(({ header }) => header === undefined)).toBe(true);
    expect(seen[1]).toMatchObject({ term: 1n, leaderId: "n9", prevLogIndex: 1n, prevLogTerm: 1n, leaderCommit: 0n });
    expect(sender.unreachable).toEqual([]);
  });

  test("do not wait for answers", async () => {
    const arrived = deferred();
    const sender = await senderTo(
      scriptedPeer(async function* (requests) {
        const waiting: AppendEntriesRequest[] = [];
        for await (const request of requests) {
          waiting.push(request);
          if (waiting.length < 64) continue;
          arrived.resolve();
          yield* waiting.splice(0).map(accepted);
        }
      }),
    );
    for (let round = 1; round <= 64; round++) sender.send(withEntries(round, round, round));
    await arrived.promise;
    await until(() => sender.answers.length === 64, "all are answered");
  });

  test("have their answers delivered with the request", async () => {
    const sender = await senderTo(
      scriptedPeer(async function* (requests) {
        for await (const { round } of requests) {
          yield round === 1n
            ? { term: 4n, success: true, matchIndex: 7n, lastLogIndex: 9n, round }
            : {
                term: 5n,
                rejection: AppendEntriesRejection.LOG_MISMATCH,
                conflictTerm: 2n,
                conflictIndex: 3n,
                lastLogIndex: 8n,
                round,
                detail: "why",
              };
        }
      }),
    );
    sender.send(withEntries(1, 5, 7, 4));
    sender.send({ ...heartbeat(2, 4), prev: { index: 9, term: 4 } });
    await until(() => sender.answers.length === 2, "both are answered");
    const from = { type: "append_entries_answer", from: "n1" };
    const request = { term: 4, round: 1, prevIndex: 4 };
    expect(sender.answers).toEqual([
      { ...from, term: 4, outcome: "accepted", matchIndex: 7, lastIndex: 9, request },
      {
        ...from,
        term: 5,
        lastIndex: 8,
        outcome: "rejected",
        rejection: { reason: "log_mismatch", detail: "why", conflictTerm: 2, conflictIndex: 3 },
        request: { term: 4, round: 2, prevIndex: 9 },
      },
    ]);
  });

  test("a rejection names a conflict only for log_mismatch, and a term only when the log reaches so far", async () => {
    const reasons = [AppendEntriesRejection.LOG_MISMATCH, AppendEntriesRejection.STALE_TERM];
    const sender = await senderTo(
      scriptedPeer(async function* (requests) {
        for await (const { round } of requests) {
          const rejection = reasons[Number(round) - 1]!;
          yield { term: 5n, rejection, conflictTerm: 0n, conflictIndex: 3n, lastLogIndex: 2n, round, detail: "why" };
        }
      }),
    );
    sender.send(heartbeat(1));
    sender.send(heartbeat(2));
    await until(() => sender.answers.length === 2, "both are answered");
    const rejections = sender.answers.map((answer) => "rejection" in answer && answer.rejection);
    expect(rejections).toStrictEqual([
      { reason: "log_mismatch", detail: "why", conflictTerm: undefined, conflictIndex: 3 },
      { reason: "stale_term", detail: "why" },
    ]);
  });

  test("start another stream after an answer out of turn has ended the first", async () => {
    let streams = 0;
    const sender = await senderTo(
      scriptedPeer(async function* (requests) {
        const isFirst = streams++ === 0;
        for await (const request of requests)
          yield { ...accepted(request), round: request.round + (isFirst ? 1n : 0n) };
      }),
    );
    sender.send(heartbeat(1));
    await until(() => sender.unreachable.length === 1, "it is unreachable");
    expect(sender.changes[0]).toMatch(/no correct peer gives: round 2, but round 1 is to be answered/);
    await sender.beatUntil(() => sender.answers.length > 0);
    expect(streams).toBe(2);
    expect(sender.changes[1]).toBe("mended");
    expect(sender.unreachable).toEqual(["n1"]);
  });

  test("to a peer of another cluster are refused, logged once, and retried only now and then", async () => {
    const { node, server } = await serve();
    const sender = new Sender({ id: "n7", address: server.address });
    await sender.beatUntil(() => sender.changes.length > 0);
    const refused = performance.now();
    await sender.beatUntil(() => performance.now() - refused > 3 * limits.peerPauseMs, 2_000);
    expect(sender.changes).toEqual([expect.stringMatching(/WRONG_CLUSTER.*receiver_id is "n7", expected "n1"/)]);
    expect(sender.unreachable).toEqual(["n7"]);
    expect(node.raft.term).toBe(0);
  });

  test("to a peer that refuses entries, as one with a full disk does, are held back until it accepts some", async () => {
    const streams: number[] = [];
    let isFull = true;
    const sender = await senderTo(
      scriptedPeer(async function* (requests) {
        const stream = streams.push(0) - 1;
        for await (const request of requests) {
          if (request.entries.length > 0) streams[stream]! += 1;
          if (request.entries.length > 0 && isFull) throw new CairnError("DISK_FULL", "the disk is full");
          yield accepted(request);
        }
      }),
    );
    let round = 0;
    const flood = () => {
      sender.send(heartbeat(++round));
      for (let at = 0; at < 20; at++) sender.send(withEntries(++round, 1, 1));
    };
    while (streams.length < 4) {
      flood();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await settled(() => streams.length);
    expect(streams.slice(1)).toEqual([1, 1, 1]);
    isFull = false;
    await sender.beatUntil(() => streams.length === 5, 10_000);
    round = 20_000;
    flood();
    await until(() => sender.rounds.at(-1) === round, "it takes all");
    expect(streams.at(-1)).toBe(20);
  });

  test("are accepted by a real node, which also votes", async () => {
    const { node, server } = await serve();
    const sender = new Sender({ id: "n1", address: server.address });
    sender.send(withEntries(1, 1, 3));
    sender.send({ ...heartbeat(2), prev: { index: 3, term: 1 }, leaderCommit: 3 });
    await until(() => sender.answers.length === 2, "both are answered");
    expect(sender.answers[1]).toMatchObject({ matchIndex: 3, term: 1 });
    await node.waitApplied(3);
    const vote = { type: "request_vote", from: "n9", to: "n1", term: 5, last: { index: 3, term: 1 } } as const;
    sender.transport.send(sender.peer, { ...vote, preVote: true, leadershipTransfer: false });
    await until(() => sender.answers.length === 3, "the pre-vote is there");
    sender.transport.send(sender.peer, { ...vote, preVote: false, leadershipTransfer: true });
    await until(() => sender.answers.length === 4, "the vote is there");
    const given = { type: "request_vote_answer", from: "n1", term: 5, granted: true, lastIndex: 3, acknowledged: 0 };
    expect(sender.answers.slice(2)).toEqual([
      { ...given, request: { term: 5, preVote: true } },
      { ...given, request: { term: 5, preVote: false } },
    ]);
    sender.transport.send(sender.peer, { type: "timeout_now", from: "n9", to: "n1", term: 6 });
    await until(() => node.raft.term === 7, "it campaigns");
    await until(() => sender.answers.length === 5, "TimeoutNow is answered");
    expect(sender.answers[4]).toMatchObject({ type: "timeout_now_answer", from: "n1" });
  });
});

test("an answer about a vote says what the candidate has acknowledged, within the bounds of an index (T3)", () => {
  const last = { index: 3, term: 1 };
  const request = { type: "request_vote", from: "n1", to: "n2", term: 5, last, preVote: true } as const;
  const answer = (acknowledgedIndex: bigint) => {
    const response = create(RequestVoteResponseSchema, { term: 4n, lastLogIndex: 9n, acknowledgedIndex });
    return toVoteAnswer({ ...request, leadershipTransfer: false }, response);
  };
  expect(answer(7n)).toMatchObject({ from: "n2", granted: false, lastIndex: 9, acknowledged: 7 });
  expect(() => answer(2n ** 60n)).toThrow("acknowledged_index");
});

describe("a peer that stops reading", () => {
  test("gets the newest heartbeat when it resumes, because heartbeats do not pile up", async () => {
    const readOn = deferred();
    const seen: AppendEntriesRequest[] = [];
    const sender = await senderTo(
      scriptedPeer(async function* (requests) {
        for await (const request of requests) {
          seen.push(request);
          yield accepted(request);
          if (seen.length === 1) await readOn.promise;
        }
      }),
    );
    sender.send(heartbeat(1));
    await until(() => sender.answers.length === 1, "the first one is answered");
    // Entries first, so that the network is full.
    for (let round = 2; round <= 9; round++) sender.send(withEntries(round, round, round, 1, 1024 * 1024));
    for (let round = 10; round <= 20_000; round++) sender.send(heartbeat(round));
    await settled(() => sender.answers.length);
    for (let round = 20_001; round <= 40_000; round++) sender.send(heartbeat(round));
    readOn.resolve();
    await until(() => sender.rounds.at(-1) === 40_000, "the newest is answered");
    expect(sender.rounds.slice(0, 9)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(seen.length).toBeLessThan(20);
    expect(sender.unreachable).toEqual([]);
  });

  test("has its stream closed when too much is queued", async () => {
    const release = deferred();
    const sender = await senderTo(
      scriptedPeer(async function* () {
        await release.promise;
        yield* [];
      }),
    );
    onTestFinished(() => release.resolve());
    const message = withEntries(1, 1, 1, 1, 1024 * 1024);
    for (let round = 1; round <= 40; round++) sender.send({ ...message, round });
    await until(() => sender.unreachable.length === 1, "it is given up");
    expect(sender.changes).toEqual([expect.stringContaining("n1 does not read")]);
    expect(sender.changes[0]).toContain("peerQueueBytes");
  });
});

describe("the transport's connections", () => {
  test("that break are logged once, and a peer that returns answers within a second", async () => {
    const server = new grpc.Server(serverOptions);
    acceptAll()(server);
    const address = await listen(server, "127.0.0.1:0");
    const sender = new Sender({ id: "n1", address });
    sender.send(heartbeat(1));
    await until(() => sender.answers.length === 1, "the first one is answered");
    server.forceShutdown();
    await until(() => sender.unreachable.length === 1, "the break is told");
    // Long enough for the pauses between attempts to have grown.
    const broken = performance.now();
    await sender.beatUntil(() => performance.now() - broken > 2_000, 10);
    expect(sender.unreachable).toEqual(["n1"]);
    expect(sender.answers).toHaveLength(1);
    const again = new grpc.Server(serverOptions);
    acceptAll()(again);
    await listen(again, address);
    onTestFinished(() => again.forceShutdown());
    expect(await awakeMs(sender.beatUntil(() => sender.answers.length > 1, 5_000))).toBeLessThan(1_000);
    expect(sender.changes).toEqual([expect.any(String), "mended"]);
    // And the next break is told again.
    again.forceShutdown();
    await until(() => sender.unreachable.length === 2, "the second break is told");
  });

  test("that are half open are detected within seconds, and replaced when the link works again", async () => {
    const { address } = await loopback(acceptAll());
    const proxy = await TcpProxy.start(() => address);
    onTestFinished(() => proxy.stop());
    const sender = new Sender({ id: "n1", address: proxy.address });
    await sender.beatUntil(() => sender.answers.length > 0);
    proxy.set({ silent: true });
    const noticed = sender.beatUntil(() => sender.unreachable.length > 0, 5_000);
    expect(await awakeMs(noticed)).toBeLessThan(limits.peerPingMs + limits.peerPingTimeoutMs + 1_000);
    // Attempts to connect get no answer meanwhile. One that never ended would be in the way for ever.
    await sender.beatUntil(() => proxy.connections > 4, 10_000);
    proxy.set({});
    const before = sender.answers.length;
    const mended = sender.beatUntil(() => sender.answers.length > before, 20_000);
    expect(await awakeMs(mended)).toBeLessThan(limits.peerConnectMs + 1_000);
    expect(sender.unreachable).toEqual(["n1"]);
  });

  test("let a vote wait for a peer that is just starting", async () => {
    const { server, address } = await loopback(acceptAll());
    const sender = new Sender({ id: "n1", address });
    sender.send(heartbeat(1));
    await until(() => sender.answers.length === 1, "it is connected");
    server.forceShutdown();
    await sender.beatUntil(() => sender.changes.length > 0);
    const vote = { type: "request_vote", from: "n9", to: "n1", term: 5, last: { index: 3, term: 1 } } as const;
    sender.transport.send(sender.peer, { ...vote, preVote: true, leadershipTransfer: false });
    const again = new grpc.Server(serverOptions);
    scriptedPeer(async function* () {}, { requestVote: async ({ term }) => ({ term, voteGranted: true }) })(again);
    await listen(again, address);
    onTestFinished(() => again.forceShutdown());
    await until(() => sender.answers.length === 2, "the vote is there");
    expect(sender.answers[1]).toMatchObject({ type: "request_vote_answer", granted: true });
  });

  test("to removed peers are closed, as are all at the end, and nothing is logged", async () => {
    const open = new Set<string>();
    const peer = () =>
      scriptedPeer(async function* (requests) {
        const id = `${open.size}`;
        open.add(id);
        try {
          for await (const request of requests) yield accepted(request);
        } finally {
          open.delete(id);
        }
      });
    const first = await loopback(peer());
    const second = await loopback(peer());
    const sender = new Sender({ id: "n1", address: first.address });
    const other = { id: "n2", address: second.address };
    sender.send(heartbeat(1));
    sender.transport.send(other, { ...heartbeat(2), to: "n2" });
    await until(() => sender.answers.length === 2, "both are answered");
    sender.transport.retain([other]);
    await until(() => open.size === 1, "one is closed");
    await sender.transport.close();
    await until(() => open.size === 0, "both are closed");
    sender.send(heartbeat(3));
    await settled(() => sender.answers.length);
    expect(sender).toMatchObject({ unreachable: [], changes: [] });
    expect(sender.answers).toHaveLength(2);
  });

  test("follow a peer to its new address", async () => {
    const first = await loopback(acceptAll());
    const seen: AppendEntriesRequest[] = [];
    const second = await loopback(acceptAll(seen));
    let address: string | undefined;
    const sender = new Sender({ id: "n1", address: "" }, { addressOf: () => address });
    sender.send(heartbeat(1));
    address = first.address;
    sender.send(heartbeat(2));
    await until(() => sender.answers.length === 1, "the first place answers");
    address = second.address;
    sender.send(heartbeat(3));
    await until(() => sender.answers.length === 2, "the second place answers");
    expect(sender.rounds).toEqual([2, 3]);
    expect(seen.map(({ round }) => round)).toEqual([3n]);
  });

  test("to an invalid address are logged, and do no harm", async () => {
    const sender = new Sender({ id: "n1", address: "no address" });
    sender.send(heartbeat(1));
    await sender.beatUntil(() => sender.changes.length > 0);
    expect(sender.answers).toEqual([]);
  });
});
