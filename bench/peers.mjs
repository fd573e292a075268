// How fast a leader's AppendEntries go to a follower in another process, what they cost in CPU time at either end, and how long a
// heartbeat takes while a snapshot streams to the same follower. The follower answers at once and keeps nothing: only the way is measured.
//
//   npm run build && node bench/peers.mjs
import { fork } from "node:child_process";
import { once } from "node:events";
import * as grpc from "@grpc/grpc-js";
import { RaftService } from "../dist/gen/cairn/v1/raft_pb.js";
import { grpcTransport } from "../dist/src/peers/grpc_transport.js";
import { raftService } from "../dist/src/peers/peer_service.js";
import { serverOptions } from "../dist/src/rpc/grpc_options.js";
import { addService } from "../dist/src/rpc/server.js";
import { widenWindows } from "../dist/src/rpc/server_windows.js";

const CLUSTER = "bench";
const MiB = 1024 * 1024;
/** Messages, and bytes of entries, that a leader has in flight. */
const WINDOW = 64;
const WINDOW_BYTES = 8 * MiB;

/** The follower's process: says where it listens, and what CPU time it has used when it is asked. */
async function follow() {
  const node = {
    id: "n1",
    incarnation: "",
    clusterId: CLUSTER,
    appendEntries: async ({ from, term, prev, entries }) => {
      const matchIndex = prev.index + entries.length;
      const accepted = { outcome: "accepted", matchIndex, lastIndex: matchIndex };
      return { type: "append_entries_answer", to: from, requestId: 0, term, ...accepted };
    },
    async *receiveSnapshot(messages) {
      for await (const message of messages) {
        if (message.kind === "offer") yield { kind: "accepted", offset: 0 };
        else yield { kind: "progress", receivedBytes: message.offset + message.data.byteLength };
      }
    },
  };
  const server = new grpc.Server(serverOptions);
  widenWindows(server);
  addService(server, RaftService, raftService(node));
  const port = await new Promise((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  process.on("message", () => process.send({ cpu: process.cpuUsage() }));
  process.on("disconnect", () => process.exit());
  process.send({ port });
}

async function lead() {
  const child = fork(process.argv[1], ["follower"]);
  const [{ port }] = await once(child, "message");
  const childCpu = async () => {
    child.send("cpu");
    return (await once(child, "message"))[0].cpu;
  };
  const leader = new Leader({ id: "n1", address: `127.0.0.1:${port}` });
  await leader.append(0, 0, 100);
  const rows = [];
  for (const [perMessage, bytes, messages] of [
    [1, 256, 20_000],
    [10, 256, 10_000],
    [100, 256, 3_000],
    [1000, 256, 300],
    [10, 64 * 1024, 500],
  ]) {
    rows.push(await measure(leader, childCpu, perMessage, bytes, messages));
  }
  console.table(rows);
  console.table([
    { heartbeats: "alone", ...(await heartbeats(leader, 2_000)) },
    { heartbeats: "beside a snapshot", ...(await besideSnapshot(leader)) },
  ]);
  await leader.transport.close();
  child.disconnect();
}

async function measure(leader, childCpu, perMessage, bytes, messages) {
  const before = await childCpu();
  const cpu = process.cpuUsage();
  const started = performance.now();
  await leader.append(perMessage, bytes, messages);
  const seconds = (performance.now() - started) / 1000;
  const own = process.cpuUsage(cpu);
  const after = await childCpu();
  const entries = perMessage * messages;
  const micros = ({ user, system }) => user + system;
  return {
    message: `${perMessage} x ${bytes} B`,
    "messages/s": Math.round(messages / seconds),
    "entries/s": Math.round(entries / seconds),
    "MB/s": Math.round((entries * bytes) / seconds / 1e6),
    "leader CPU us/message": (micros(own) / messages).toFixed(1),
    "follower CPU us/message": ((micros(after) - micros(before)) / messages).toFixed(1),
  };
}

/** Round trips of heartbeats, one every 2 ms. */
async function heartbeats(leader, ms, until = () => false) {
  const times = [];
  const started = performance.now();
  while (performance.now() - started < ms && !until()) {
    const sent = performance.now();
    await leader.append(0, 0, 1);
    times.push(performance.now() - sent);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.floor(share * (times.length - 1))].toFixed(2);
  return { count: times.length, "p50 ms": at(0.5), "p99 ms": at(0.99), "max ms": at(1) };
}

async function besideSnapshot(leader) {
  const stream = leader.transport.openInstall(leader.peer);
  const replies = stream.replies[Symbol.asyncIterator]();
  const data = new Uint8Array(256 * 1024).fill(7);
  const fileBytes = 1024 * MiB;
  let isDone = false;
  const started = performance.now();
  const sending = (async () => {
    const sha256 = new Uint8Array(32);
    await stream.send({ kind: "offer", from: "n9", leaderTerm: 1, index: 1, term: 1, fileBytes, sha256 });
    for (let offset = 0; offset < fileBytes; offset += data.byteLength) {
      await stream.send({ kind: "chunk", leaderTerm: 1, offset, data });
    }
  })();
  const receiving = (async () => {
    for (;;) {
      const { value } = await replies.next();
      if (value?.receivedBytes === fileBytes) break;
    }
    isDone = true;
  })();
  const result = await heartbeats(leader, 60_000, () => isDone);
  await Promise.all([sending, receiving]);
  const seconds = (performance.now() - started) / 1000;
  stream.cancel();
  return { ...result, "snapshot MB/s": Math.round(fileBytes / seconds / 1e6) };
}

/** The node n9, which leads. */
class Leader {
  #round = 0;
  #answered = 0;
  #onAnswer = () => {};

  constructor(peer) {
    this.peer = peer;
    const events = {
      answer: () => {
        this.#answered += 1;
        this.#onAnswer();
      },
      unreachable: (id) => {
        throw new Error(`${id} is unreachable`);
      },
    };
    this.transport = grpcTransport()({ id: "n9", clusterId: CLUSTER }, events);
  }

  /** Sends messages, as many at a time as a leader has in flight, and waits for the last answer. */
  async append(perMessage, bytes, messages) {
    const data = new Uint8Array(bytes).fill(7);
    const entries = Array.from({ length: perMessage }, (_, at) => ({ index: 1 + at, term: 1, type: "command", data }));
    const last = this.#answered + messages;
    const window = Math.min(WINDOW, Math.max(1, Math.floor(WINDOW_BYTES / (perMessage * bytes + 1))));
    let left = messages;
    const prev = { index: 0, term: 0 };
    const fill = () => {
      for (; left > 0 && this.#round - this.#answered < window; left--) {
        const round = ++this.#round;
        this.transport.send(this.peer, {
          ...{ type: "append_entries", from: "n9", to: "n1", term: 1, prev, entries, leaderCommit: 0, round },
        });
        if (perMessage === 0) {
          left--;
          break;
        }
      }
    };
    await new Promise((resolve) => {
      this.#onAnswer = () => (this.#answered >= last ? resolve() : fill());
      fill();
    });
    this.#onAnswer = () => {};
  }
}

if (process.argv[2] === "follower") await follow();
else await lead();
