import { expect, onTestFinished, test } from "vitest";
import type { CommandResult } from "../../gen/cairn/v1/storage_pb.js";
import { claimDirectory } from "../../src/daemon/claim.js";
import { NodeSession } from "../../src/daemon/node_session.js";
import type { World } from "../../src/daemon/world.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { CairnNode } from "../../src/node/node.js";
import type { Introduced, Introduction, Standing } from "../../src/raft/membership/introduction.js";
import type { Introducer } from "../../src/server/introducer.js";
import { DataDirectory } from "../../src/storage/data_dir.js";
import type { Identity } from "../../src/storage/identity.js";
import { deferred } from "../support/conditions.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";

type Node = CairnNode<CommandResult, MemoryMachine>;

const PATH = "/data/n2";
const founders = ["n1", "n2"].map((name) => ({ name, address: `${name}:1` }));
const FOUNDER = "f".repeat(32);
const plain: Introduction = {
  name: "n1",
  receiver: "n2",
  founders,
  base: undefined,
  founder: FOUNDER,
  askPromise: false,
};
const asking: Introduction = { ...plain, askPromise: true };

/** n1 as it is when it has asked. */
const present: Introduced = {
  name: "n1",
  incarnation: FOUNDER,
  founders,
  base: undefined,
  standing: { kind: "new", promised: false },
};

/** A session of the new node n2, with what it serves. `n1`: what that says of itself. */
async function opened(n1: () => Introduced | undefined = () => present) {
  const fs = new FaultyFileSystem(["/data"]);
  await claimDirectory(fs, PATH, { name: "n2", cameBy: "cluster", founders, alone: [] }, true);
  let introducer!: Introducer;
  const nothing = () => Promise.reject(new Error("nobody is asked here"));
  const world: World<Node> = {
    fs,
    startNode: (onLost) =>
      CairnNode.start({ id: "n2", directory: PATH, fs, openMachine: async () => new MemoryMachine(), onLost }),
    serve: async (_node, listen, served) => {
      introducer = served;
      return { address: listen, stop: async () => {} };
    },
    ask: async ({ name }) => (name === "n1" ? n1() : undefined),
    join: nothing,
    pause: nothing,
    now: () => 0,
    close: () => {},
  };
  const session = await NodeSession.open<Node>({
    world,
    directory: PATH,
    listen: "n2:1",
    refusesReturn: false,
    warnings: () => [],
    contactOf: (_node, name) => ({ name, address: `${name}:1` }),
    lastFounder: { incarnation: undefined },
  });
  onTestFinished(() => session.node.crash().catch(() => {}));
  const identity = async () => (await DataDirectory.identityAt(fs.peek(PATH, "none"), PATH)) as Identity;
  return { fs, session, introducer, identity };
}

test("a promise is on the disk before it is given, and ends the session (T1)", async () => {
  const { session, introducer, identity } = await opened();
  const first = await introducer.introduce(plain);
  expect(first.standing).toEqual({ kind: "new", promised: false });
  const answer = await introducer.introduce(asking);
  expect(answer.standing).toEqual({ kind: "new", promised: true });
  expect(await identity()).toMatchObject({ clusterId: FOUNDER, incarnation: answer.incarnation });
  expect(await session.ended).toEqual({ kind: "turned" });
});

test("a founder that has not asked before, or was not the last to ask, gets no promise (T1)", async () => {
  const { introducer, identity } = await opened();
  expect((await introducer.introduce(asking)).standing).toEqual({ kind: "new", promised: false });
  await introducer.introduce(plain);
  await introducer.introduce({ ...plain, founder: "e".repeat(32) });
  expect((await introducer.introduce(asking)).standing).toEqual({ kind: "new", promised: false });
  expect((await identity()).clusterId).toBe("");
});

const others: readonly (readonly [string, Introduced | undefined])[] = [
  ["does not answer", undefined],
  ["has another directory by now", { ...present, incarnation: "e".repeat(32) }],
  ["has founded another cluster", { ...present, standing: memberOf("e".repeat(32)) }],
];

function memberOf(clusterId: string): Standing {
  return { kind: "member", clusterId, membership: [], membershipIndex: 1, leader: undefined };
}

test.each(others)("a late request for a promise from a founder that %s gets none (T1)", async (_, n1) => {
  const { session, introducer, identity } = await opened(() => n1);
  await introducer.introduce(plain);
  expect((await introducer.introduce(asking)).standing).toEqual({ kind: "new", promised: false });
  expect((await identity()).clusterId).toBe("");
  expect(session.facts()).toBeDefined();
});

test("a session whose directory cannot turn to a cluster fails, so that its process ends with its stopped node (T1)", async () => {
  const { fs, session, introducer } = await opened();
  await introducer.introduce(plain);
  fs.failCall("syncDirectory", 1);
  await expect(introducer.introduce(asking)).rejects.toThrow("STORAGE_FAILED");
  expect(await session.ended).toMatchObject({ kind: "failed", error: { code: "STORAGE_FAILED" } });
  expect(session.facts()).toBeUndefined();
});

test("a session that is stopped while its directory turns lets the turn end, and the directory is unlocked afterwards (T2)", async () => {
  const { fs, session, introducer, identity } = await opened();
  await introducer.introduce(plain);
  const [turning, held] = [deferred(), deferred()];
  fs.onCall = ({ path }) => {
    if (!path.endsWith("cairn.json.tmp")) return undefined;
    turning.resolve();
    return held.promise;
  };
  const answering = introducer.introduce(asking);
  await turning.promise;
  let isStopped = false;
  const stopping = session.stop().then(() => {
    isStopped = true;
  });
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(isStopped).toBe(false);
  held.resolve();
  await stopping;
  const claimed = await claimDirectory(fs, PATH, { name: "n2", cameBy: "cluster", founders, alone: [] }, true);
  expect(claimed).toEqual(await identity());
  expect(claimed.clusterId).toBe(FOUNDER);
  expect((await answering).standing).toEqual({ kind: "new", promised: true });
});
