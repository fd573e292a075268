import * as grpc from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { MachineService } from "../../gen/cairn/v1/machine_pb.js";
import { limits } from "../../src/base/limits.js";
import { CairnNode } from "../../src/node/node.js";
import { grpcTransport } from "../../src/peers/grpc_transport.js";
import type { Membership } from "../../src/raft/types.js";
import { openChannel } from "../../src/rpc/client.js";
import { healthService } from "../../src/server/discovery/health.js";
import { inMemory, type ResultCodec } from "../../src/server/machine/own_machine.js";
import { ownMachineServices } from "../../src/server/machine/services.js";
import { CairnServer } from "../../src/server/server.js";
import { failure, until } from "../support/conditions.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";
import { answer, command, Words } from "../support/machines/words.js";
import { CLUSTER } from "../support/nodes/nodes.js";
import { freePorts } from "../support/processes/process_cluster.js";

const machine = inMemory(() => new Words());

/** A member with the machine of the tests, in memory, and clients of its services. */
async function serve(id: string, listen: string, members: Membership, codec: ResultCodec<Uint8Array> = machine) {
  const node = await CairnNode.start({
    id,
    directory: `/data/${id}`,
    clusterId: CLUSTER,
    members,
    fs: new FaultyFileSystem(["/data"]),
    openMachine: machine.open,
    transport: grpcTransport(),
    tickMs: 20,
    elections: "manual",
  });
  const server = await CairnServer.start(node, { listen, machineServices: ownMachineServices(node, codec) });
  const channel = openChannel(server.address);
  onTestFinished(async () => {
    channel.close();
    await server.stop();
    await node.stop();
  });
  return { node, server, channel, machine: channel.client(MachineService), admin: channel.client(AdminService) };
}

async function three(codec?: ResultCodec<Uint8Array>) {
  const ports = await freePorts(3);
  const members = ports.map((port, at) => ({ id: `n${at + 1}`, address: `127.0.0.1:${port}`, role: "voter" }) as const);
  const all = await Promise.all(members.map(({ id, address }) => serve(id, address, members, codec)));
  const [leader, follower, other] = all as [(typeof all)[0], (typeof all)[0], (typeof all)[0]];
  await leader.node.campaign();
  await until(() => all.every(({ node }) => node.raft.leader === "n1"), "all follow n1");
  return { all, leader, follower, other };
}

describe("MachineService", () => {
  test("forwards proposals, read indexes and barriers from a follower to the leader", async () => {
    const { leader, follower } = await three();
    const first = await follower.machine.propose({ command: command("a") });
    expect([first.index, answer(first.result)]).toEqual([2n, "1"]);
    expect((await follower.machine.readIndex({})).index).toBe(2n);
    expect((await follower.machine.barrier({})).index).toBe(3n);
    expect(answer((await leader.machine.propose({ command: command("b") })).result)).toBe("2");
    await follower.node.waitApplied(4);
    expect(follower.node.machine.state.words).toEqual(["a", "b"]);
  });

  test("refuses all of them without a leader", async () => {
    const [port] = await freePorts(1);
    const members = ["n1", "n2", "n3"].map((id) => ({ id, address: `127.0.0.1:${port}`, role: "voter" }) as const);
    const { machine } = await serve("n1", "127.0.0.1:0", members);
    await failure("NOT_LEADER", machine.propose({ command: command("a") }));
    await failure("NOT_LEADER", machine.readIndex({}));
    await failure("NOT_LEADER", machine.barrier({}));
  });

  test("refuses a command that fits no entry", async () => {
    const { follower } = await three();
    await failure(
      "LIMIT_EXCEEDED",
      follower.machine.propose({ command: new Uint8Array(limits.entryBytes) }),
      "entryBytes",
    );
  });

  test.each([
    ["too long", () => new Uint8Array(limits.machineResultBytes + 1), "machineResultBytes"],
    ["no bytes", () => "text" as never, "no Uint8Array"],
    [
      "unknown to its codec",
      () => {
        throw new Error("what is that?");
      },
      "what is that?",
    ],
  ])("reports a command whose result is %s as having taken effect", async (_, encodeResult, text) => {
    const { leader, follower } = await three({ ...machine, encodeResult });
    const error = await failure("INTERNAL", follower.machine.propose({ command: command("a") }), text);
    expect(error.text).toContain("index 2 has taken effect");
    expect(leader.node.machine.state.words).toEqual(["a"]);
  });

  test("returns a result of the largest size", async () => {
    const encodeResult = () => new Uint8Array(limits.machineResultBytes);
    const { follower } = await three({ ...machine, encodeResult });
    const { result } = await follower.machine.propose({ command: command("a") });
    expect(result.byteLength).toBe(limits.machineResultBytes);
  });
});

describe("a node with an application's machine", () => {
  test("has its state compared with the others', even when all have a snapshot already", async () => {
    const { all, leader, follower } = await three();
    await leader.node.propose(command("a"));
    let last = 0n;
    for (const each of [leader, leader, follower]) {
      const { index, allEqual, digests } = await each.admin.verifyState({});
      expect(allEqual).toBe(true);
      expect(digests.map(({ error }) => error)).toEqual(["", "", ""]);
      // A file that was there before says nothing of the state that a member has now.
      expect(index).toBeGreaterThan(last);
      last = index;
    }
    await until(() => all.every(({ node }) => node.machine.appliedIndex === leader.node.machine.appliedIndex), "equal");
    follower.node.machine.state.words.push("not replicated");
    await leader.node.propose(command("b"));
    const { allEqual, digests } = await leader.admin.verifyState({});
    expect(allEqual).toBe(false);
    expect(digests.filter(({ differs }) => differs).map(({ nodeId }) => nodeId)).toEqual(["n2"]);
  });

  test("reports status, snapshots and log", async () => {
    const { leader } = await three();
    await leader.node.propose(command("a"));
    const taken = await leader.admin.takeSnapshot({});
    expect(taken.snapshot?.index).toBe(2n);
    const status = await leader.admin.getStatus({});
    expect(status).toMatchObject({ nodeId: "n1", leaderId: "n1", appliedIndex: 2n, snapshotIndex: 2n });
    const parts = [];
    for await (const { data } of leader.admin.downloadSnapshot({ index: 2n })) parts.push(Buffer.from(data));
    expect(Buffer.concat(parts).toString("latin1")).toContain('["a"]');
  });

  test("reports the health of each of its services, and of no other", async () => {
    const { server } = await serve("n1", "127.0.0.1:0", [{ id: "n1", address: "", role: "voter" }]);
    const Client = grpc.makeClientConstructor(healthService(), "Health");
    const client = new Client(server.address, grpc.credentials.createInsecure());
    onTestFinished(() => client.close());
    const check = (service: string) =>
      new Promise((resolve) => {
        client.check!({ service }, (error: grpc.ServiceError | null, answer: { status: string }) =>
          resolve(error === null ? answer.status : grpc.status[error.code]),
        );
      });
    for (const service of ["", "cairn.v1.MachineService", "cairn.v1.AdminService", "cairn.v1.RaftService"]) {
      expect(await check(service)).toBe("SERVING");
    }
    expect(await check("cairn.v1.KeyValueService")).toBe("NOT_FOUND");
  });

  test("does not offer the key-value service", async () => {
    const { leader } = await three();
    const kv = leader.channel.client(KeyValueService);
    await failure("UNIMPLEMENTED", kv.get({ key: command("a") }));
  });
});
