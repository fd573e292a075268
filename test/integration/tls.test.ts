import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { KeyValueService, type WatchResponse } from "../../gen/cairn/v1/kv_pb.js";
import type { ChannelSettings } from "../../src/rpc/channel.js";
import { type Client, openChannel } from "../../src/rpc/client.js";
import { TestAuthority } from "../support/certificates/authority.js";
import { type NodeFiles, tlsFlags, writeNodeFiles } from "../support/certificates/node_files.js";
import { failure, untilAsync } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { runCommand, startCommand } from "../support/processes/processes.js";

const IDS = ["n1", "n2", "n3"];
const INGRESS = ["--ingress", "1", "--ingress-listen", "127.0.0.1:0"];

/** A client's connection of its own. */
function clientAt(address: string, settings: ChannelSettings): Client<typeof KeyValueService> {
  const channel = openChannel(address, settings);
  onTestFinished(() => channel.close());
  return channel.client(KeyValueService);
}

describe("a cluster with mutual TLS (T9)", () => {
  let directory: string;
  let cluster: ProcessCluster;
  let peers: TestAuthority;
  let clients: TestAuthority;
  let alice: ChannelSettings;
  const files = new Map<string, NodeFiles>();

  async function writeFiles(id: string, clusterName = "c1", days = 90): Promise<NodeFiles> {
    const written = await writeNodeFiles(join(directory, `tls-${id}`), await peers.node(clusterName, id, days), {
      clients,
      peers,
    });
    files.set(id, written);
    return written;
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cairn-tls-"));
    [peers, clients] = await Promise.all([TestAuthority.create("peers"), TestAuthority.create("clients")]);
    for (const id of [...IDS, "n4"]) await writeFiles(id);
    const { key, certificate } = await clients.issue({ commonName: "alice" });
    const pems = [peers.pem, key, certificate].map((pem) => Buffer.from(pem));
    alice = { credentials: grpc.credentials.createSsl(...pems) };
    const argsOf = (id: string) => tlsFlags(files.get(id)!);
    cluster = await ProcessCluster.start(directory, IDS, INGRESS, { argsOf, channels: alice });
    await cluster.settled();
  });
  afterAll(async () => {
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("is founded, takes writes at followers and ingress processes, compares its states, and grows", async () => {
    const [follower] = await cluster.followers();
    const key = Buffer.from("k");
    expect(await follower!.kv.put({ key, value: Buffer.from("1") })).toMatchObject({
      header: { leaderId: (await cluster.leader()).id },
    });
    const front = `${(await follower!.node.event("ingress")).address}`;
    expect((await clientAt(front, alice).get({ key })).kv?.value).toEqual(Buffer.from("1"));
    expect((await follower!.admin.verifyState({}, { timeoutMs: 30_000 })).allEqual).toBe(true);
    await cluster.startJoining("n4", [follower!.address]);
    await cluster.until("n4 has joined", async () => (await cluster.roles()).includes("n4 LEARNER") || undefined);
    await cluster.settled();
  });

  test("refuses clients without a certificate at both ports", async () => {
    const { address, node } = await cluster.leader();
    const trusting = { credentials: grpc.credentials.createSsl(Buffer.from(peers.pem)) };
    for (const each of [address, `${(await node.event("ingress")).address}`]) {
      await failure("UNREACHABLE", clientAt(each, trusting).get({ key: Buffer.from("k") }, { timeoutMs: 5_000 }));
      await failure("UNREACHABLE", clientAt(each, {}).get({ key: Buffer.from("k") }, { timeoutMs: 5_000 }));
    }
  });

  test("lets no node join with the certificate of another cluster, and says why", async () => {
    const flags = tlsFlags(await writeFiles("n5", "another"));
    const { address, node } = await cluster.leader();
    const args = ["start", "--id", "n5", "--data", join(directory, "n5"), "--listen", "127.0.0.1:0", "--json"];
    const stranger = startCommand([...args, "--join", address, ...flags]);
    await untilAsync(
      async () => /is for cairn:\/\/c1\/node\/n\d, not for cairn:\/\/another\/node/.test(stranger.stderr),
      "n5 refuses the members",
    );
    // n5 does not even ask. A caller that does is refused by the members.
    expect((await cluster.roles()).some((role) => role.startsWith("n5"))).toBe(false);
    expect(node.output()).not.toContain('"from":"n5"');
    await stranger.kill();
  });

  test("uses changed certificates without breaking a connection, while there is load", async () => {
    const leader = await cluster.leader();
    const [follower] = await cluster.followers();
    const fronts = await Promise.all([leader, follower!].map(({ node }) => node.event("ingress")));
    const kvs = [leader.kv, follower!.kv, ...fronts.map(({ address }) => clientAt(`${address}`, alice))];
    const stopping = new AbortController();
    const watched: WatchResponse[] = [];
    const watches = kvs.map(async (kv) => {
      for await (const answer of kv.watch({ prefix: Buffer.from("load") }, { signal: stopping.signal })) {
        watched.push(answer);
      }
    });
    const ends = Promise.allSettled(watches);
    const brokenWatch = Promise.race(watches);
    let isOver = false;
    let writes = 0;
    const load = kvs.map(async (kv, at) => {
      for (let count = 0; !isOver; count++, writes++) {
        await kv.put({ key: Buffer.from(`load ${at}`), value: Buffer.from(`${count}`) }, { timeoutMs: 20_000 });
      }
    });
    const changed = async () => {
      await Promise.all(IDS.map((id) => writeFiles(id, "c1", 40)));
      await cluster.until("all nodes use the new certificates", async () => {
        const all = await Promise.all(IDS.map((id) => cluster.get(id).admin.getStatus({})));
        const ends = all.map(({ certificates }) => Number(certificates[0]?.expiresUnixMs));
        return ends.every((end) => end < Date.now() + 41 * 24 * 3_600_000) || undefined;
      });
      const before = writes;
      await cluster.until("writes go on", async () => writes > before + 50 || undefined);
      isOver = true;
    };
    try {
      await Promise.race([Promise.all([changed(), ...load]), brokenWatch]);
    } finally {
      isOver = true;
      stopping.abort();
      await ends;
    }
    expect(watched.length).toBeGreaterThan(0);
    // New connections get the new ones, between members too.
    await cluster.kill(follower!.id);
    await cluster.startFounder(follower!.id);
    await cluster.settled();
    await clientAt(leader.address, alice).get({ key: Buffer.from("load 0") });
    for (const id of IDS) expect(cluster.get(id).node.output()).not.toContain("cannot be used");
  });
});

describe("cairn start without TLS", () => {
  test.each([
    ["--listen", ["--listen", "0.0.0.0:0"]],
    ["--listen", ["--cluster", "n1=10.0.0.1:7101"]],
    ["--ingress-listen", ["--ingress", "1", "--ingress-listen", "[::]:0"]],
  ])("does not begin with an open %s: %j", async (flag, args) => {
    const data = await temporaryDirectory();
    const { code, stderr } = await runCommand(["start", "--id", "n1", "--data", data, ...args]);
    expect(code).toBe(2);
    expect(stderr).toMatch(new RegExp(`^error: ${flag} .*there is no TLS: .*--tls-cert .*--insecure`));
  });

  test("begins with --insecure, and warns of it at every start", async () => {
    const data = await temporaryDirectory();
    for (let start = 1; start <= 2; start++) {
      const args = ["start", "--id", "n1", "--data", data, "--listen", "0.0.0.0:0", "--insecure"];
      const command = startCommand(args);
      await untilAsync(async () => command.stderr.includes("INSECURE"), "it warns");
      await untilAsync(async () => command.stdout.includes("listens on"), "it listens");
      await command.kill();
    }
  });
});
