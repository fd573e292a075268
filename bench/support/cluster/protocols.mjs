// Speaks to both systems in the same way: unary gRPC calls whose few messages it encodes itself.
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import grpc from "@grpc/grpc-js";

/** Bound on the time that a node takes for a snapshot. */
const SNAPSHOT_MS = 1_800_000;

const bytesAsTheyAre = (bytes) => bytes;

const CHANNEL_OPTIONS = {
  // A node that starts is found at once.
  "grpc.initial_reconnect_backoff_ms": 5,
  "grpc.min_reconnect_backoff_ms": 5,
  "grpc.max_reconnect_backoff_ms": 20,
  // Another client's backoff does not count.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.max_receive_message_length": -1,
};

/** A connection to one node of either system. */
export class NodeConnection {
  #client;
  #system;

  constructor(system, address) {
    this.#system = PROTOCOLS[system];
    this.#client = new grpc.Client(address, grpc.credentials.createInsecure(), CHANNEL_OPTIONS);
  }

  /** Says who the node is, who leads, and how far it has come: `{ id, leader, applied, committed }`, and for Cairn `snapshot`, the index of its newest one. */
  async status() {
    const { method, decode } = this.#system.status;
    return decode(await this.#unary(method, new Uint8Array(), 1_000));
  }

  async put(key, value, timeoutMs) {
    const request = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(Buffer.from(key));
    request.tag(2, WireType.LengthDelimited).bytes(value);
    await this.#unary(this.#system.put, request.finish(), timeoutMs);
  }

  /** Reads a key linearizably. @throws when it is not there, or after the time limit */
  async get(key, timeoutMs) {
    const request = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(Buffer.from(key)).finish();
    const response = fieldsOf(await this.#unary(this.#system.get, request, timeoutMs));
    if (response[2] === undefined) throw new Error(`${key} is not there`);
  }

  /** Makes a Cairn node take a snapshot. Resolves once it is durable. */
  async takeSnapshot() {
    await this.#unary(this.#system.snapshot.take, new Uint8Array(), SNAPSHOT_MS);
  }

  /** Saves a snapshot of the present state to a new file. Resolves to its size once it is durable. */
  async saveSnapshot(file) {
    const { take, download, data } = this.#system.snapshot;
    if (take !== undefined) await this.takeSnapshot();
    const parts = this.#client.makeServerStreamRequest(download, bytesAsTheyAre, bytesAsTheyAre, Buffer.alloc(0));
    const target = createWriteStream(file, { flags: "wx", flush: true });
    await pipeline(parts, (messages) => payloads(messages, data), target);
    return target.bytesWritten;
  }

  close() {
    this.#client.close();
  }

  #unary(method, request, timeoutMs) {
    const options = { deadline: Date.now() + timeoutMs };
    const metadata = new grpc.Metadata({ waitForReady: true });
    return new Promise((resolve, reject) => {
      const answered = (error, response) => (error === null ? resolve(response) : reject(error));
      const body = Buffer.from(request);
      this.#client.makeUnaryRequest(method, bytesAsTheyAre, bytesAsTheyAre, body, metadata, options, answered);
    });
  }
}

const PROTOCOLS = {
  etcd: {
    put: "/etcdserverpb.KV/Put",
    get: "/etcdserverpb.KV/Range",
    status: {
      method: "/etcdserverpb.Maintenance/Status",
      decode(response) {
        const { 1: header, 4: leader = "0", 5: committed = "0", 7: applied = "0" } = fieldsOf(response);
        return {
          id: fieldsOf(header)[2],
          leader: leader === "0" ? undefined : leader,
          applied: Number(applied),
          committed: Number(committed),
        };
      },
    },
    snapshot: { take: undefined, download: "/etcdserverpb.Maintenance/Snapshot", data: 3 },
  },
  cairn: {
    put: "/cairn.v1.KeyValueService/Put",
    get: "/cairn.v1.KeyValueService/Get",
    status: {
      method: "/cairn.v1.AdminService/GetStatus",
      decode(response) {
        const fields = fieldsOf(response);
        const { 2: id, 6: leader = "", 7: committed = "0", 8: applied = "0", 10: snapshot = "0" } = fields;
        return {
          id: Buffer.from(id).toString(),
          leader: Buffer.from(leader).toString() || undefined,
          applied: Number(applied),
          committed: Number(committed),
          snapshot: Number(snapshot),
        };
      },
    },
    snapshot: {
      take: "/cairn.v1.AdminService/TakeSnapshot",
      download: "/cairn.v1.AdminService/DownloadSnapshot",
      data: 2,
    },
  },
};

async function* payloads(messages, field) {
  for await (const message of messages) yield fieldsOf(message)[field] ?? new Uint8Array();
}

/** Decodes the fields of a message by number: varints as decimal strings, the rest as bytes. */
function fieldsOf(message) {
  const reader = new BinaryReader(message);
  const fields = {};
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (type === WireType.Varint) fields[number] = String(reader.uint64());
    else if (type === WireType.LengthDelimited) fields[number] = reader.bytes();
    else reader.skip(type, number);
  }
  return fields;
}
