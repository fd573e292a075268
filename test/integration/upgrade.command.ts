import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CairnClient } from "../../src/client/client.js";
import { failure, untilAsync } from "../support/conditions.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { COMMAND, runCommand, startCommand } from "../support/processes/processes.js";
import { Load } from "./upgrade/load.js";
import { buildPrevious } from "./upgrade/previous_build.js";

// Run by upgrade.config.ts, which takes the command line apart.

const { UPGRADE_FROM, UPGRADE_WITHOUT_LEASES, UPGRADE_OTHER_PROTOCOL, UPGRADE_SEED } = process.env;
const seed = Number(UPGRADE_SEED);
const IDS = ["n1", "n2", "n3"];
/** Operations that must be answered between two steps. */
const BETWEEN = 150;
/** Snapshots all the time, so that members get them from other versions, too. */
const ARGS = ["--snapshot-entries", "500", "--trailing-log-bytes", "0", "--segment-bytes", `${5 * 1024 * 1024}`];

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-upgrade-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }), 120_000);

/** A cluster whose nodes run the program that they were given last. */
class MixedCluster {
  readonly #programs = new Map<string, string>();

  private constructor(
    readonly cluster: ProcessCluster,
    readonly endpoints: readonly string[],
    programs: ReadonlyMap<string, string>,
  ) {
    this.#programs = programs as Map<string, string>;
  }

  static async start(name: string, program: string): Promise<MixedCluster> {
    const programs = new Map(IDS.map((id) => [id, program]));
    const settings = { commandOf: (id: string) => programs.get(id) };
    const cluster = await ProcessCluster.start(join(directory, name), IDS, ARGS, settings);
    await cluster.leaderOfAll();
    return new MixedCluster(
      cluster,
      IDS.map((id) => cluster.get(id).address),
      programs,
    );
  }

  /** Stops a node as an operator does, and starts it with another program. */
  async change(id: string, program: string): Promise<void> {
    expect(await this.cluster.kill(id, "SIGTERM"), id).toEqual({ code: 0, signal: null });
    await this.startWith(id, program);
    await this.cluster.leaderOfAll();
  }

  async startWith(id: string, program: string): Promise<void> {
    this.#programs.set(id, program);
    await this.cluster.startFounder(id);
  }

  /** Changes all nodes, followers first. Calls `between` after each of them. */
  async changeAll(program: string, between: (id: string) => Promise<void>): Promise<void> {
    const leader = (await this.cluster.leader()).id;
    for (const id of [...IDS.filter((each) => each !== leader), leader]) {
      await this.change(id, program);
      await between(id);
    }
  }

  /** What an operator sees: status and doctor, in words. */
  async seen(): Promise<string> {
    const endpoints = ["--endpoints", this.endpoints.join(",")];
    const [status, doctor] = await Promise.all([
      runCommand(["status", ...endpoints]),
      runCommand(["doctor", ...endpoints]),
    ]);
    return `${status.stdout}\n${doctor.stdout}`;
  }
}

describe(`an upgrade from ${UPGRADE_FROM} with seed ${seed}`, () => {
  test("of one node after the other loses nothing, delays no watch, and can be taken back while nothing new is used", async () => {
    const previous = buildPrevious(UPGRADE_FROM!, join(directory, "previous"));
    const mixed = await MixedCluster.start("rolling", previous);
    const load = new Load(mixed.endpoints, seed);
    await load.answers(BETWEEN);
    await mixed.changeAll(COMMAND, async (id) => {
      await load.answers(BETWEEN);
      console.log(`${id} runs this version: ${JSON.stringify(load.counts)}`);
    });
    expect(await mixed.seen()).toMatch(/ok +versions +all that answer run/);
    // Back, and forth again.
    const [follower] = await mixed.cluster.followers();
    await mixed.change(follower!.id, previous);
    await load.answers(BETWEEN);
    const seen = await mixed.seen();
    expect(seen).toMatch(new RegExp(`^versions differ: .*${follower!.id} runs [^;]*, an earlier build`, "m"));
    expect(seen).toMatch(/^WARNING +versions .*an earlier build/m);
    await mixed.change(follower!.id, COMMAND);
    await load.answers(BETWEEN);
    await load.stop();
    const index = await mixed.cluster.settled();
    const report = await load.check(Number(index));
    console.log(JSON.stringify(report));
    expect(report.watchRestarts).toBe(0);
    expect(new Set(await mixed.cluster.digests()).size).toBe(1);
    await mixed.cluster.close();
  });
});

describe(`an upgrade from ${UPGRADE_WITHOUT_LEASES}, which knows no leases`, () => {
  test("refuses leases until all members know them, and then no member without them", async () => {
    const previous = buildPrevious(UPGRADE_WITHOUT_LEASES!, join(directory, "without-leases"));
    const mixed = await MixedCluster.start("leases", previous);
    const { cluster } = mixed;
    await using client = new CairnClient({ endpoints: mixed.endpoints });
    await client.put("k", "1");
    const leader = (await cluster.leader()).id;
    const followers = IDS.filter((id) => id !== leader);
    for (const id of followers) await mixed.change(id, COMMAND);
    // Leadership goes to this version, and one member is still of the other.
    await mixed.change(leader, previous);
    const present = await cluster.leader();
    expect(present.id).not.toBe(leader);
    // Not by a member of the other version, which does not know the call.
    await using there = new CairnClient({ endpoints: [present.address] });
    await failure("FAILED_PRECONDITION", there.leases.grant({ ttlMs: 60_000 }), `${leader} runs a version of Cairn`);
    await client.put("k", "2");
    expect(await cluster.leaderOfAll()).toBeDefined();
    await mixed.change(leader, COMMAND);
    const lease = await cluster.until("leases are granted", () =>
      client.leases.grant({ ttlMs: 60_000 }).catch(() => undefined),
    );
    await client.put("leased", "1", { lease });
    // The way back is closed: the other members go on.
    await cluster.settled();
    await cluster.kill(leader, "SIGTERM");
    const back = startCommand(["start", "--id", leader, "--data", cluster.dataOf(leader), "--listen", "127.0.0.1:0"], {
      command: previous,
    });
    const { code } = await back.ended();
    expect(code).not.toBe(0);
    console.log(`the version without leases: ${back.stderr.trim().split("\n").at(-1)}`);
    expect(back.stderr).toMatch(/rules|version/);
    await client.put("k", "3");
    await cluster.startFounder(leader);
    await cluster.leaderOfAll();
    expect(new Set(await cluster.digests()).size).toBe(1);
    await cluster.close();
  });
});

describe(`a node of ${UPGRADE_OTHER_PROTOCOL}, which speaks another protocol`, () => {
  test("is told so, takes no part, and does the cluster no harm", async () => {
    const other = buildPrevious(UPGRADE_OTHER_PROTOCOL!, join(directory, "other-protocol"));
    const mixed = await MixedCluster.start("strangers", COMMAND);
    const { cluster } = mixed;
    await using client = new CairnClient({ endpoints: mixed.endpoints });
    await client.put("k", "1");
    const { term } = await (await cluster.leader()).admin.getStatus({});
    const args = [
      "start",
      "--id",
      "n4",
      "--data",
      join(directory, "n4"),
      "--listen",
      "127.0.0.1:0",
      "--log-level",
      "info",
    ];
    const stranger = startCommand([...args, "--join", mixed.endpoints.join(",")], { command: other });
    await untilAsync(async () => {
      const seen = await mixed.seen();
      return /protocol_version is 1, expected 2/.test(seen + stranger.stderr);
    }, "somebody says that the protocols differ");
    await client.put("k", "2");
    console.log(`the stranger: ${(stranger.stdout + stranger.stderr).trim().slice(-600)}`);
    await stranger.kill();
    const status = await (await cluster.leaderOfAll()).admin.getStatus({});
    expect(status.term).toBe(term);
    expect(await cluster.roles()).toEqual(IDS.map((id) => `${id} VOTER`));
    await cluster.close();
  });

  test("leaves its data to this version when all nodes are stopped first", async () => {
    const other = join(directory, "other-protocol", "dist/cli/main.js");
    const mixed = await MixedCluster.start("full-stop", other);
    const { cluster } = mixed;
    await cluster.put(new Map([["k", "1"]]));
    // One node of this version among the others: it is refused, says so, and the others go on.
    const [follower] = await cluster.followers();
    await cluster.kill(follower!.id, "SIGTERM");
    const data = cluster.dataOf(follower!.id);
    const lonely = startCommand(["start", "--id", follower!.id, "--data", data, "--listen", follower!.address]);
    await untilAsync(
      async () => /protocol_version is \d, expected \d/.test(lonely.stderr),
      "it says that the protocols differ",
    );
    await cluster.put(new Map([["k", "2"]]));
    expect(await lonely.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    for (const id of [...cluster.running.keys()]) await cluster.kill(id, "SIGTERM");
    await Promise.all(IDS.map((id) => mixed.startWith(id, COMMAND)));
    await cluster.leaderOfAll();
    expect(await cluster.readAll("k")).toEqual(new Map([["k", "2"]]));
    await cluster.close();
  });
});
