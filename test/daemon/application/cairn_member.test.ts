import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { CairnMember } from "../../../src/daemon/application/cairn_member.js";
import type { ClusterEvent } from "../../../src/daemon/application/cluster_events.js";
import type { MemberEvent } from "../../../src/daemon/events.js";
import type { ApplyResult, StateMachine } from "../../../src/machine/state_machine.js";
import type { Entry, SnapshotMeta } from "../../../src/raft/types.js";
import { inMemory, ownMachine } from "../../../src/server/machine/own_machine.js";
import { TestAuthority } from "../../support/certificates/authority.js";
import { writeNodeFiles } from "../../support/certificates/node_files.js";
import { failure, isSettled, until } from "../../support/conditions.js";
import { temporaryDirectory } from "../../support/disk/temporary_directory.js";
import { answer, command, Words } from "../../support/machines/words.js";
import { OwnCluster, type WordsMember } from "./own_cluster.js";

const THREE = ["n1", "n2", "n3"];
const words = (member: WordsMember, options = {}) => member.read((view) => [...view.words], options);

describe("a cluster of CairnMembers", () => {
  test("takes a proposal at any member, and a linearizable read at any member sees it", async () => {
    const cluster = await OwnCluster.of(THREE);
    let count = 0;
    for (const id of THREE) {
      const { result, index } = await cluster.get(id).propose(command(`from ${id}`));
      expect(answer(result)).toBe(`${++count}`);
      expect(index).toBeGreaterThan(1);
      for (const reader of THREE) expect(await words(cluster.get(reader))).toHaveLength(count);
    }
    expect(await words(cluster.get("n2"))).toEqual(["from n1", "from n2", "from n3"]);
    expect((await cluster.get("n3").propose(command("quiet"))).result.byteLength).toBe(0);
  });

  test("does all of it with TLS, and a member without the right certificate takes no part", async () => {
    const directory = await temporaryDirectory();
    const [peers, clients] = await Promise.all([TestAuthority.create("peers"), TestAuthority.create("clients")]);
    const filesOf = async (id: string, name = "words") =>
      writeNodeFiles(join(directory, id), await peers.node(name, id), { clients, peers });
    const files = Object.fromEntries(await Promise.all(THREE.map(async (id) => [id, await filesOf(id)])));
    const cluster = await OwnCluster.prepare(THREE);
    await Promise.all(THREE.map((id) => cluster.start(id, { tls: files[id] })));
    for (const id of THREE) await cluster.get(id).propose(command(`from ${id}`));
    for (const id of THREE) expect(await words(cluster.get(id))).toEqual(["from n1", "from n2", "from n3"]);
    const wrong = { id: "n4", directory: join(directory, "data"), machine: inMemory(() => new Words()) };
    const tls = files.n3!;
    await failure("INVALID_ARGUMENT", CairnMember.start({ ...wrong, listen: "127.0.0.1:0", tls }), "this node is n4");
    await failure("INVALID_ARGUMENT", CairnMember.start({ ...wrong, listen: "0.0.0.0:0" }), "--insecure");
    const { peerCa: _, ...withoutPeers } = tls;
    const joining = { ...wrong, id: "n3", listen: "127.0.0.1:0", join: ["127.0.0.1:1"], tls: withoutPeers };
    await failure("INVALID_ARGUMENT", CairnMember.start(joining), "--tls-peer-ca");
  });

  test("brings many concurrent proposals into one order", async () => {
    const cluster = await OwnCluster.of(THREE);
    const all = THREE.flatMap((id) => Array.from({ length: 50 }, (_, at) => [id, `${id} ${at}`] as const));
    const results = await Promise.all(all.map(([id, word]) => cluster.get(id).propose(command(word))));
    const answers = results.map(({ result }) => Number(answer(result)));
    expect([...answers].sort((a, b) => a - b)).toEqual(Array.from({ length: 150 }, (_, at) => at + 1));
    const state = await words(cluster.get("n1"));
    expect(answers.map((place) => state[place - 1])).toEqual(all.map(([, word]) => word));
  });

  test("holds a proposal made before the cluster is founded until it is", async () => {
    const cluster = await OwnCluster.prepare(THREE);
    const first = await cluster.start("n2");
    const proposed = first.propose(command("early"), { timeoutMs: 60_000 });
    const read = words(first, { timeoutMs: 60_000 });
    expect(await isSettled(proposed)).toBe(false);
    await cluster.start("n1");
    await cluster.start("n3");
    expect(answer((await proposed).result)).toBe("1");
    await read;
    expect(await words(first)).toEqual(["early"]);
  });

  test("reports a proposal without a leader as not done at the time limit or the caller's abort, and serves stale reads", async () => {
    const cluster = await OwnCluster.of(THREE);
    const follower = await cluster.follower();
    const { index } = await follower.propose(command("a"));
    await words(follower, { stale: true, minAppliedIndex: index });
    for (const id of THREE) if (id !== follower.id) await cluster.stop(id);
    await until(() => follower.leader.leader === undefined, "no leader is known");
    await failure("TIMEOUT", follower.propose(command("b"), { timeoutMs: 300 }), "nothing has happened");
    await failure("TIMEOUT", words(follower, { timeoutMs: 300 }), "no leader");
    const caller = new AbortController();
    const given = failure("CANCELLED", follower.propose(command("c"), { signal: caller.signal }), "the caller gave up");
    caller.abort();
    await given;
    await failure("CANCELLED", words(follower, { signal: caller.signal }));
    expect(await words(follower, { stale: true })).toEqual(["a"]);
    await failure("TIMEOUT", words(follower, { stale: true, minAppliedIndex: index + 99, timeoutMs: 100 }));
  });

  test("fails no caller when its leader hands over", async () => {
    const cluster = await OwnCluster.of(THREE);
    const leader = await cluster.leader();
    const follower = await cluster.follower();
    const writing = Promise.all(
      Array.from({ length: 30 }, (_, at) => follower.propose(command(`${at}`), { isIdempotent: true })),
    );
    await cluster.stop(leader.id);
    await writing;
    expect(new Set(await words(follower)).size).toBe(30);
  });

  test("refuses a command that no log entry can hold before anything is sent", async () => {
    const cluster = await OwnCluster.of(THREE);
    const follower = await cluster.follower();
    await failure("LIMIT_EXCEEDED", follower.propose(new Uint8Array(3 * 1024 * 1024)), "entryBytes");
    await failure("INVALID_ARGUMENT", follower.propose("text" as never), "Uint8Array");
    await failure("INVALID_ARGUMENT", follower.read("text" as never), "query must be a function");
    const options = { timeoutMs: -1 };
    await failure("INVALID_ARGUMENT", follower.propose(command("a"), options), "timeoutMs");
  });

  test("passes an error that a query throws to its caller", async () => {
    const cluster = await OwnCluster.of(["n1"]);
    const query = () => {
      throw new RangeError("mine");
    };
    await expect(cluster.get("n1").read(query)).rejects.toThrow(RangeError);
  });
});

/** A state machine that does everything itself; its results are numbers. */
class Sum implements StateMachine<number> {
  appliedIndex = 0;
  sum = 0;

  apply(entries: readonly Entry[]): ApplyResult<number>[] {
    return entries.map(({ index, type, data }) => {
      this.appliedIndex = index;
      if (type === "command") this.sum += Number(Buffer.from(data));
      return { index, result: type === "command" ? this.sum : undefined };
    });
  }

  async capture() {
    const { appliedIndex, sum } = this;
    return {
      appliedIndex,
      async *payload() {
        yield Buffer.from(`${sum}`);
      },
      release() {},
    };
  }

  async restore(payload: AsyncIterable<Uint8Array>, at: SnapshotMeta) {
    let text = "";
    for await (const piece of payload) text += Buffer.from(piece);
    this.sum = Number(text);
    this.appliedIndex = at.index;
  }

  async close() {}
  async crash() {}
}

test("members of a machine with its own type of results all return that type", async () => {
  const cluster = await OwnCluster.prepare(THREE);
  const results = {
    encodeResult: (result: number) => Buffer.from(`${result}`),
    decodeResult: (bytes: Uint8Array) => Number(Buffer.from(bytes)),
  };
  const machine = ownMachine(async () => new Sum(), results);
  const start = (id: string) =>
    CairnMember.start({ id, directory: cluster.dataOf(id), cluster: cluster.addresses, machine, tickMs: 20 });
  const members = await Promise.all(THREE.map(start));
  onTestFinished(async () => void (await Promise.all(members.map((member) => member.stop()))));
  let sum = 0;
  for (const member of members) {
    const { result } = await member.propose(command("5"));
    sum += 5;
    expect(result).toBe(sum);
    expect(await member.read((view) => view.sum)).toBe(sum);
  }
});

describe("the data of CairnMembers", () => {
  test("comes back from log and snapshot after all members have stopped", async () => {
    const cluster = await OwnCluster.of(THREE);
    for (let at = 0; at < 20; at++) await cluster.get("n1").propose(command(`${at}`));
    await cluster.get("n1").node.takeSnapshot({});
    for (let at = 20; at < 30; at++) await cluster.get("n2").propose(command(`${at}`));
    for (const id of THREE) await cluster.stop(id);
    await Promise.all(THREE.map((id) => cluster.start(id)));
    for (const id of THREE) {
      expect(await words(cluster.get(id))).toEqual(Array.from({ length: 30 }, (_, at) => `${at}`));
    }
    expect(cluster.get("n1").node.recovery.stateRebuilt).toBe(true);
  });

  test("reaches a member that lost its disk by a snapshot, while its callers wait", async () => {
    const cluster = await OwnCluster.of(THREE, { snapshots: { entries: 10 }, trailingLogBytes: 0 });
    const lost = await cluster.follower();
    await cluster.stop(lost.id);
    const [other] = [...cluster.members.values()];
    for (let at = 0; at < 60; at++) await other!.propose(command(`${at}`), { timeoutMs: 60_000 });
    await rm(cluster.dataOf(lost.id), { recursive: true });
    const events: ClusterEvent[] = [];
    const back = await cluster.start(lost.id, { onEvent: (event) => events.push(event) });
    const incarnation = back.node.incarnation;
    const read = words(back, { timeoutMs: 60_000 });
    const proposed = back.propose(command("I am back"), { timeoutMs: 60_000 });
    expect(await read).toEqual(expect.arrayContaining(Array.from({ length: 60 }, (_, at) => `${at}`)));
    expect(answer((await proposed).result)).toBe("61");
    await until(() => events.some(({ kind }) => kind === "promoted"), "it votes");
    const kinds = events.map(({ kind }) => kind);
    for (const kind of ["listening", "turned", "joined", "leader", "membership", "snapshot", "promoted"] as const) {
      expect(kinds).toContain(kind);
    }
    expect(events.find(({ kind }) => kind === "snapshot")).toMatchObject({ reason: "installed" });
    // It has turned to its cluster meanwhile, with another node.
    expect(back.node.identity.incarnation).toBe(back.node.incarnation);
    expect(incarnation).not.toBe("");
  });

  test("reaches a further member that joins, and can be read there", async () => {
    const cluster = await OwnCluster.of(THREE);
    await cluster.get("n1").propose(command("a"));
    const joined = new Promise<MemberEvent>((resolve) => {
      void cluster
        .start("n4", { join: [cluster.get("n2").address], listen: "127.0.0.1:0" })
        .then((member) => member.on("joined", resolve));
    });
    expect(await joined).toMatchObject({ kind: "joined", clusterId: cluster.get("n1").node.clusterId });
    expect(await words(cluster.get("n4"))).toEqual(["a"]);
    expect(answer((await cluster.get("n4").propose(command("b"))).result)).toBe("2");
    expect((await cluster.leader()).node.raft.membership.members.find(({ id }) => id === "n4")).toMatchObject({
      role: "learner",
    });
  });
});

describe("the events of a CairnMember", () => {
  test("report leader, membership and snapshot, each change once", async () => {
    const cluster = await OwnCluster.prepare(THREE);
    const told = new Map<string, ClusterEvent[]>(THREE.map((id) => [id, []]));
    const onEvent = (id: string) => (event: ClusterEvent) => void told.get(id)!.push(event);
    await Promise.all(THREE.map((id) => cluster.start(id, { onEvent: onEvent(id) })));
    const leader = await cluster.leader();
    const of = (id: string, kind: string) => told.get(id)!.filter((event) => event.kind === kind);
    await until(() => THREE.every((id) => of(id, "membership").length === 1), "all know the membership");
    for (const id of THREE) {
      expect(of(id, "leader").at(-1)).toMatchObject({ leader: leader.id, isSelf: id === leader.id });
      const leaders = of(id, "leader").map((event) => JSON.stringify(event));
      expect(leaders.filter((each, at) => each === leaders[at - 1])).toEqual([]);
      expect(of(id, "membership")[0]).toMatchObject({ members: THREE.map((each) => ({ id: each, role: "voter" })) });
    }
    await leader.propose(command("a"));
    await leader.node.takeSnapshot({});
    await until(() => of(leader.id, "snapshot").length === 1, "the snapshot is told");
    expect(of(leader.id, "snapshot")[0]).toMatchObject({ reason: "requested" });
    const to = THREE.find((id) => id !== leader.id)!;
    await leader.node.transferLeadership(to);
    await until(() => THREE.every((id) => of(id, "leader").at(-1) && cluster.get(id).leader.leader === to), "it leads");
    expect(cluster.get(to).leader.isSelf).toBe(true);
    await cluster.stop(to);
    expect(of(to, "leader").at(-1)).toMatchObject({ leader: undefined, isSelf: false });
  });

  test("report a member that cannot keep up, and that it has caught up", async () => {
    const cluster = await OwnCluster.of(THREE, { lagEntries: 5 });
    const behind = await cluster.follower();
    const told: boolean[] = [];
    behind.on("lag", ({ isBehind }) => void told.push(isBehind));
    const requests = behind.node as unknown as { appendEntries: (message: object) => Promise<unknown> };
    const take = requests.appendEntries.bind(behind.node);
    // The leader's commit index arrives, and no entry does.
    requests.appendEntries = (message) => take({ ...message, entries: [] });
    const leader = await cluster.leader();
    for (let at = 0; at < 20; at++) await leader.propose(command(`${at}`));
    await until(() => told.length === 1, "it is behind");
    expect(told).toEqual([true]);
    expect(behind.lag).toBeGreaterThan(5);
    requests.appendEntries = take;
    await until(() => told.length === 2, "it has caught up");
    expect(told).toEqual([true, false]);
    expect(behind.lag).toBeLessThanOrEqual(2);
  });

  test("stop for a listener that is removed, and a listener that throws harms nobody", async () => {
    const errors: unknown[] = [];
    const note = () => {};
    const logger = { debug: note, info: note, warn: note, error: (facts: object) => void errors.push(facts) };
    const cluster = await OwnCluster.of(["n1"], { logger });
    const member = cluster.get("n1");
    const told: string[] = [];
    const error = new Error("the listener's");
    member.on("snapshot", () => {
      throw error;
    });
    const end = member.on("snapshot", () => void told.push("first"));
    member.on("snapshot", () => void told.push("second"));
    await member.propose(command("a"));
    await member.node.takeSnapshot({});
    await until(() => told.length === 2, "both are told");
    expect(errors).toContainEqual({ err: error, kind: "snapshot" });
    end();
    await member.propose(command("b"));
    await member.node.takeSnapshot({});
    await until(() => told.length === 3, "one is told");
    expect(told).toEqual(["first", "second", "second"]);
  });
});

describe("a CairnMember that ends", () => {
  test("refuses calls and ends those that wait when it has stopped", async () => {
    const cluster = await OwnCluster.prepare(THREE);
    const member = await cluster.start("n1");
    const waiting = failure("STOPPED", member.propose(command("a")));
    const reading = failure(
      "STOPPED",
      member.read(() => 1),
    );
    await cluster.stop("n1");
    await Promise.all([waiting, reading]);
    await failure("STOPPED", member.propose(command("a")));
    await member.stop();
  });

  test("tells its application and refuses calls when its machine throws", async () => {
    const fatal: unknown[] = [];
    const cluster = await OwnCluster.of(["n1"], { onFatal: (error) => void fatal.push(error) });
    const member = cluster.get("n1");
    await failure("OUTCOME_UNKNOWN", member.propose(command("throw")));
    await until(() => fatal.length === 1, "the application is told");
    expect(String(fatal[0])).toContain("could not apply the command");
    await failure("STOPPED", member.propose(command("a")), "failed and stopped");
    expect(member.leader.leader).toBeUndefined();
  });

  test("leaves a directory that has lost data alone when it is told so", async () => {
    const cluster = await OwnCluster.of(THREE);
    const { id } = await cluster.follower();
    await cluster.stop(id);
    await rm(cluster.dataOf(id), { recursive: true });
    const fatal: unknown[] = [];
    await cluster.start(id, { lostDisk: "refuse", onFatal: (error) => void fatal.push(error) });
    await until(() => fatal.length === 1, "it is refused");
    expect(String(fatal[0])).toContain("must not start");
  });
});

describe("the options of a CairnMember", () => {
  const good = { id: "n1", directory: "/nowhere", machine: inMemory(() => new Words()) };
  const three = { n1: "127.0.0.1:7101", n2: "127.0.0.1:7102" };

  test.each([
    [undefined, "options must be an object"],
    [{ ...good, id: 7 }, "id must be a text"],
    [{ ...good, directory: "" }, "directory must be a text"],
    [{ ...good, machine: undefined }, "machine must be an object"],
    [{ ...good, machine: { open: "no" } }, "machine.open must be a function"],
    [{ ...good, cluster: three, join: ["127.0.0.1:7103"] }, "cluster and join are both given"],
    [{ ...good, id: "n9", cluster: three }, "cluster names n1, n2, but not this member, n9"],
    [{ ...good, cluster: { n1: "nowhere" } }, "cluster.n1 must be host:port"],
    [{ ...good, cluster: three, advertise: "127.0.0.1:9" }, "advertise is 127.0.0.1:9"],
    [{ ...good, join: [] }, "join must be a list"],
    [{ ...good, join: ["nowhere"] }, "join must be host:port"],
    [{ ...good, lostDisk: "maybe" }, "lostDisk must be"],
    [{ ...good, lagEntries: -1 }, "lagEntries must be"],
    [{ ...good, onEvent: 1 }, "onEvent must be a function"],
    [{ ...good, tickMs: 0 }, "tickMs must be"],
  ])("are refused by name for %j", async (options, text) => {
    await failure("INVALID_ARGUMENT", CairnMember.start(options as never), text);
  });

  test("must describe a machine by functions", async () => {
    await failure("INVALID_ARGUMENT", () => inMemory(7 as never), "make must be a function");
    await failure("INVALID_ARGUMENT", () => ownMachine(7 as never), "open must be a function");
  });
});
