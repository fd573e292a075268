import { describe, expect, onTestFinished, test } from "vitest";
import { SnapshotRefusal } from "../../gen/cairn/v1/raft_pb.js";
import { limits } from "../../src/base/limits.js";
import type { InstallMessage, InstallReply } from "../../src/peers/install/install_messages.js";
import { deferred, failure, until } from "../support/conditions.js";
import { putEntries, readValue, snapshotOf } from "../support/nodes/acting_leader.js";
import { collect, loopback, settled } from "../support/nodes/loopback.js";
import { serve } from "../support/nodes/served_node.js";
import { accepted, heartbeat, Sender, scriptedPeer } from "./peers.js";

const CHUNK_BYTES = 64 * 1024;

function offerOf(snapshot: Awaited<ReturnType<typeof snapshotOf>>): InstallMessage & { kind: "offer" } {
  const { index, term, file, sha256 } = snapshot;
  return { kind: "offer", from: "n9", leaderTerm: 3, index, term, fileBytes: file.byteLength, sha256 };
}

function chunk(offset: number, data: Uint8Array): InstallMessage {
  return { kind: "chunk", leaderTerm: 3, offset, data };
}

describe("a snapshot's transfer", () => {
  test("installs on a real node: accepted, progress, installed", async () => {
    const { node, server } = await serve();
    const sender = new Sender({ id: "n1", address: server.address });
    const snapshot = await snapshotOf(putEntries(1, 20, 2));
    const stream = sender.transport.openInstall(sender.peer);
    const replies = collect(stream.replies);
    await stream.send(offerOf(snapshot));
    for (let offset = 0; offset < snapshot.file.byteLength; offset += 100) {
      await stream.send(chunk(offset, snapshot.file.subarray(offset, offset + 100)));
    }
    const said = await replies;
    expect(said[0]).toEqual({ kind: "accepted", offset: 0 });
    expect(said[1]).toEqual({ kind: "progress", receivedBytes: 100 });
    expect(said.at(-1)).toEqual({ kind: "installed", term: 3, matchIndex: 20, applied: true });
    expect(readValue(node, "k20")).toBe("2.20");
    stream.cancel();
    const again = sender.transport.openInstall(sender.peer);
    await again.send(offerOf(snapshot));
    expect(await collect(again.replies)).toEqual([
      expect.objectContaining({ kind: "refused", reason: "already_committed", commitIndex: 20, lastLogIndex: 20 }),
    ]);
    again.cancel();
  });

  test("ends with the error of its receiver", async () => {
    const { server } = await serve();
    const sender = new Sender({ id: "n1", address: server.address });
    const snapshot = await snapshotOf(putEntries(1, 20, 2));
    const stream = sender.transport.openInstall(sender.peer);
    await stream.send(offerOf(snapshot));
    await stream.send(chunk(0, snapshot.file.map((byte) => byte ^ 1).subarray(0, 500)));
    await failure("CORRUPT", collect(stream.replies));
    await failure("CORRUPT", () => stream.send(chunk(500, snapshot.file.subarray(500, 600))));
    stream.cancel();
  });

  test("fails when the peer is down", async () => {
    const { server, address } = await loopback(() => {});
    server.forceShutdown();
    const sender = new Sender({ id: "n1", address });
    const stream = sender.transport.openInstall(sender.peer);
    await failure("UNREACHABLE", collect(stream.replies));
    stream.cancel();
    const unknown = sender.transport.openInstall({ id: "n2", address: "" });
    await failure("UNREACHABLE", collect(unknown.replies), "the address of n2 is not known");
    await failure("UNREACHABLE", unknown.send(chunk(0, Buffer.from("x"))));
    unknown.cancel();
  });

  test("has a name for every refusal", async () => {
    const reasons = [
      SnapshotRefusal.STALE_TERM,
      SnapshotRefusal.ALREADY_COMMITTED,
      SnapshotRefusal.BUSY,
      SnapshotRefusal.NO_SPACE,
    ];
    const { address } = await loopback(
      scriptedPeer(async function* () {}, {
        async *installSnapshot() {
          for (const reason of reasons) yield { message: { case: "refused", value: { reason, detail: "why" } } };
        },
      }),
    );
    const sender = new Sender({ id: "n1", address });
    const stream = sender.transport.openInstall(sender.peer);
    const replies = (await collect(stream.replies)) as (InstallReply & { kind: "refused" })[];
    expect(replies.map(({ reason }) => reason)).toEqual(["stale_term", "already_committed", "busy", "no_space"]);
    stream.cancel();
  });

  test("makes its sender wait while the receiver does not read, but delays no heartbeat", async () => {
    const release = deferred();
    onTestFinished(() => release.resolve());
    const clients = new Set<string>();
    const { address } = await loopback(
      scriptedPeer(
        async function* (requests) {
          for await (const request of requests) yield accepted(request);
        },
        {
          async *installSnapshot(_requests, { peer }) {
            clients.add(peer);
            await release.promise;
            yield* [];
          },
        },
      ),
    );
    const sender = new Sender({ id: "n1", address });
    const stream = sender.transport.openInstall(sender.peer);
    let sent = 0;
    const sending = (async () => {
      for (; ; sent++) await stream.send(chunk(sent * CHUNK_BYTES, new Uint8Array(CHUNK_BYTES)));
    })();
    sending.catch(() => {});
    await until(() => clients.size === 1 && sent * CHUNK_BYTES > limits.streamBufferBytes, "the stream is full");
    for (let round = 1; round <= 20; round++) {
      sender.send(heartbeat(round));
      await until(() => sender.rounds.at(-1) === round, "the heartbeat is answered");
    }
    const before = sent;
    expect(await settled(() => sent)).toBe(before);
    stream.cancel();
    await failure("CANCELLED", sending);
  });

  test("ends with the transport", async () => {
    const ended = deferred();
    const { address } = await loopback(
      scriptedPeer(async function* () {}, {
        async *installSnapshot(_requests, { signal }) {
          signal.addEventListener("abort", () => ended.resolve());
          yield { message: { case: "accepted", value: { offset: 0n } } };
          await ended.promise;
        },
      }),
    );
    const sender = new Sender({ id: "n1", address });
    const stream = sender.transport.openInstall(sender.peer);
    const replies = stream.replies[Symbol.asyncIterator]();
    expect((await replies.next()).value).toEqual({ kind: "accepted", offset: 0 });
    await sender.transport.close();
    await failure("CANCELLED", replies.next());
    await ended.promise;
    stream.cancel();
  });
});
