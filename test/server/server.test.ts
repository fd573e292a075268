import * as grpc from "@grpc/grpc-js";
import { expect, onTestFinished, test, vi } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { openChannel } from "../../src/rpc/client.js";
import { CairnServer } from "../../src/server/server.js";
import { failure, isSettled, until } from "../support/conditions.js";
import { holdCalls } from "../support/disk/held_calls.js";
import { bytes, putEntries, snapshotOf } from "../support/nodes/acting_leader.js";
import { memoryHome } from "../support/nodes/nodes.js";
import { collect, headerTo, serve } from "../support/nodes/served_node.js";

test("a server refuses by name an address that it cannot listen on", async () => {
  const { node, server } = await serve();
  for (const listen of ["nowhere", "127.0.0.1:", "127.0.0.1:999999", ":7101", "999.1.1.1:0"]) {
    await failure("INVALID_ARGUMENT", CairnServer.start(node, { listen, discoverable: false }), listen.slice(0, 5));
  }
  await failure(
    "INVALID_ARGUMENT",
    CairnServer.start(node, { listen: server.address, discoverable: false }),
    "cannot listen",
  );
  expect(server.address).toMatch(/^127\.0\.0\.1:\d+$/);
});

test("a server can be stopped more than once, and frees its port", async () => {
  const home = memoryHome();
  const node = await home.start();
  const server = await CairnServer.start(node, { listen: "127.0.0.1:0" });
  await Promise.all([server.stop(), server.stop()]);
  await server.stop();
  const again = await CairnServer.start(node, { listen: server.address });
  const channel = openChannel(again.address);
  onTestFinished(() => channel.close());
  expect((await channel.client(AdminService).getStatus({})).nodeId).toBe("n1");
  channel.close();
  await again.stop();
});

test("a server that stops finishes a call in progress, and accepts no more", async () => {
  const { kv, home, server, admin } = await serve({ lead: true });
  const hold = holdCalls(home.disk, ({ kind, path }) => kind === "datasync" && path.includes("/wal/"));
  const write = kv.put({ key: bytes("a"), value: bytes("1") });
  await hold.reached("the write is under way");
  const stopped = server.stop();
  expect(await isSettled(stopped)).toBe(false);
  hold.resolve();
  expect((await write).version).toBe(2n);
  await stopped;
  await failure("UNREACHABLE", admin.getStatus({}, { timeoutMs: 5000 }));
});

test("a server that stops aborts calls that do not end, and leaves nothing of them", async () => {
  const { raft, kv, home, node, server } = await serve();
  const append = raft.appendEntries();
  const appended = append.responses[Symbol.asyncIterator]();
  await append.send({ header: headerTo(node), term: 1n, leaderId: "n9" });
  expect((await appended.next()).value.success).toBe(true);
  const snapshot = await snapshotOf(putEntries(1, 50));
  const install = raft.installSnapshot();
  const installed = install.responses[Symbol.asyncIterator]();
  const offer = {
    header: headerTo(node),
    term: 1n,
    index: 50n,
    snapshotTerm: 1n,
    fileBytes: BigInt(snapshot.file.byteLength),
    sha256: snapshot.sha256,
  };
  await install.send({ message: { case: "offer", value: offer } });
  expect((await installed.next()).value.message.case).toBe("accepted");
  const waiting = kv.get({ key: bytes("a"), stale: true, minAppliedIndex: 99n });
  const outcomes = Promise.allSettled([appended.next(), installed.next(), waiting]);
  await server.stop();
  expect((await outcomes).map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
  await home.stop(node);
  expect(await home.leftovers()).toEqual([]);
});

test("a server that stops ends the streams of peers at once, after the answers to the requests that arrived", async () => {
  const { raft, node, server } = await serve();
  const append = raft.appendEntries();
  const answers = append.responses[Symbol.asyncIterator]();
  await append.send({ header: headerTo(node), term: 1n, leaderId: "n9" });
  expect((await answers.next()).value.success).toBe(true);
  const idle = raft.installSnapshot();
  const refused = failure("STOPPED", collect(idle.responses));
  await append.send({ term: 2n, leaderId: "n9" });
  await until(() => node.raft.term === 2, "the message has arrived");
  // That is how a stop would end that waits for them.
  const cutOff = vi.spyOn(grpc.Server.prototype, "forceShutdown");
  await server.stop();
  expect(cutOff).not.toHaveBeenCalled();
  cutOff.mockRestore();
  expect((await answers.next()).value.term).toBe(2n);
  await failure("STOPPED", answers.next());
  await refused;
});

test("a server whose node stops first still answers the calls in progress", async () => {
  const { kv, admin, home, node } = await serve();
  const read = failure("STOPPED", kv.get({ key: bytes("a"), stale: true, minAppliedIndex: 5n }));
  const info = failure("STOPPED", admin.getLogInfo({ minAppliedIndex: 5n }));
  expect((await admin.getStatus({})).nodeId).toBe("n1");
  await home.stop(node);
  await Promise.all([read, info]);
});

test("a server that is killed aborts everything at once", async () => {
  const { raft, node, server } = await serve();
  const stream = raft.appendEntries();
  const answers = collect(stream.responses);
  await stream.send({ header: headerTo(node), term: 1n, leaderId: "n9" });
  await until(() => node.raft.term === 1, "the message has arrived");
  server.kill();
  await failure("OUTCOME_UNKNOWN", answers);
});
