// A node and its gRPC server, which bench/snapshot.mjs and bench/install.mjs measure: the only voter of its cluster, or one of several. It is
// told what to do by messages, one at a time, and answers each with one.
//
//   node bench/snapshot_node.mjs '{"id": "n1", "directory": "...", "members": [...]}', started with an IPC channel
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { encodeCommand } from "../dist/src/machine/kv/command.js";
import { LmdbMachine } from "../dist/src/machine/lmdb_machine.js";
import { CairnNode } from "../dist/src/node/node.js";
import { grpcTransport } from "../dist/src/peers/grpc_transport.js";
import { openKeyValueMachine } from "../dist/src/server/kv/open_machine.js";
import { CairnServer } from "../dist/src/server/server.js";
import { nodeFileSystem } from "../dist/src/system/fs.js";
import { writeBare } from "./support/bare_write.mjs";
import { delayTasks, serveTasks } from "./support/tasks.mjs";

const WRITE_BYTES = 512 * 1024;
/** Proposals at a time while the state is filled. */
const FILLERS = 256;

const { id, directory, members } = JSON.parse(process.argv[2]);
const own = members?.find((member) => member.id === id);
// Snapshots are taken only when the benchmark says so.
const options = { id, openMachine: openKeyValueMachine, trailingLogBytes: 0, snapshots: false };
const cluster = members === undefined ? {} : { members, newClusterId: "bench", transport: grpcTransport() };
const node = await CairnNode.start({ ...options, ...cluster, directory: join(directory, id) });
const server = await CairnServer.start(node, { listen: own?.address ?? "127.0.0.1:0", discoverable: false });
if (members === undefined) await node.campaign();

const tasks = {
  ...delayTasks,
  /** Puts `keys` keys with values of `valueBytes`. */
  async fill({ keys, valueBytes }) {
    const value = new Uint8Array(valueBytes).fill(7);
    let next = 0;
    const filler = async () => {
      while (next < keys) {
        const key = Buffer.from(`key-${String(next++).padStart(12, "0")}`);
        await node.propose(encodeCommand({ operation: { case: "put", value: { key, value } } }));
      }
    };
    await Promise.all(Array.from({ length: FILLERS }, filler));
  },
  async campaign() {
    await node.campaign();
  },
  /** Resolves when this node has applied `index`. */
  async applied({ index }) {
    await node.waitApplied(index);
  },
  async position() {
    const { log, role } = node.raft;
    return { role, commit: log.commit, applied: log.applied, snapshot: node.raft.snapshot?.index ?? 0 };
  },
  async transfers() {
    return { transfers: node.transfers };
  },
  async take() {
    const started = performance.now();
    const { taken, snapshot } = await node.takeSnapshot({});
    return { taken, bytes: snapshot.fileBytes, seconds: (performance.now() - started) / 1000 };
  },
  /** Writes as many bytes to the same disk with nothing else to do, and syncs them. */
  async writeBare({ bytes }) {
    const path = join(directory, "bare");
    const started = performance.now();
    await writeBare(path, buffersOf(bytes));
    const seconds = (performance.now() - started) / 1000;
    await nodeFileSystem.unlink(path);
    return { seconds };
  },
  /** Loads the newest snapshot into a state beside the node's, as an install does. */
  async restore() {
    const path = join(directory, "restored");
    const machine = await LmdbMachine.open({ directory: path });
    const info = node.snapshots.newest();
    await nextTurn();
    const started = performance.now();
    await machine.restore(node.snapshots.openPayload(info), info);
    const seconds = (performance.now() - started) / 1000;
    await machine.crash();
    await nodeFileSystem.removeAll(path);
    return { seconds };
  },
  async stop() {
    await server.stop();
    await node.stop();
    setImmediate(() => process.disconnect());
  },
};

function* buffersOf(bytes) {
  const buffer = Buffer.alloc(WRITE_BYTES, 7);
  for (let at = 0; at < bytes; at += WRITE_BYTES) yield buffer.subarray(0, Math.min(WRITE_BYTES, bytes - at));
}

serveTasks(tasks, { address: server.address });
