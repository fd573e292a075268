import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CairnNode } from "../src/node/node.js";
import type { KeyValueNode } from "../src/server/key_value_node.js";
import { openKeyValueMachine } from "../src/server/open_machine.js";
import { CairnServer } from "../src/server/server.js";
import { grpcTransport } from "../src/transport/grpc_transport.js";
import { putCommand } from "./support/acting_leader.js";
import { until } from "./support/conditions.js";

test("three", async () => {
  const dir = await mkdtemp(join(tmpdir(), "cairn-try-"));
  const addresses = new Map<string, string>();
  const ids = ["n1", "n2", "n3"];
  const members = ids.map((id) => ({ id, address: "", role: "voter" as const }));
  const nodes: KeyValueNode[] = [];
  const servers: CairnServer[] = [];
  for (const id of ids) {
    const node: KeyValueNode = await CairnNode.start({
      id,
      directory: join(dir, id),
      openMachine: openKeyValueMachine,
      clusterId: "c",
      members,
      transport: grpcTransport({
        addressOf: (p) => addresses.get(p.id),
        onChange: (p, e) => console.log(id, p.id, e?.message),
      }),
    });
    const server = await CairnServer.start(node, { listen: "127.0.0.1:0", discoverable: false });
    addresses.set(id, server.address);
    nodes.push(node);
    servers.push(server);
  }
  const t0 = performance.now();
  await until(() => nodes.some((n) => n.raft.isEstablishedLeader), "leader");
  console.log("elected", performance.now() - t0);
  const leader = nodes.find((n) => n.raft.isEstablishedLeader)!;
  for (const callers of [1, 16, 128, 512]) {
    const t = performance.now();
    let n = 0;
    const value = new Uint8Array(256).fill(65);
    await Promise.all(
      Array.from({ length: callers }, async (_, c) => {
        while (performance.now() - t < 2000) {
          await leader.propose(putCommand(`k${c}-${n % 1000}`, value));
          n++;
        }
      }),
    );
    const ms = performance.now() - t;
    console.log(callers, "callers", Math.round((n / ms) * 1000), "/s", ((ms * callers) / n).toFixed(2), "ms each");
  }
  const last = leader.raft.log.last.index;
  await until(() => nodes.every((x) => x.machine.appliedIndex === last), "all applied");
  expect(nodes.map((x) => x.raft.progress.map((p) => `${p.id} ${p.state}`))).toBeDefined();
  const t1 = performance.now();
  console.log("transfer to", await leader.transferLeadership(), performance.now() - t1);
  for (const s of servers) {
    const t = performance.now();
    await s.stop();
    console.log("stop", performance.now() - t);
  }
  for (const x of nodes) await x.stop();
  await rm(dir, { recursive: true });
});
