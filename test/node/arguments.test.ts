import { readdir } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { CairnNode } from "../../src/node/node.js";
import { openKeyValueMachine } from "../../src/server/kv/open_machine.js";
import { CairnServer } from "../../src/server/server.js";
import { failure } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { memoryHome } from "../support/nodes/nodes.js";

/** Whatever an embedder may pass from JavaScript. */
// biome-ignore lint/suspicious/noExplicitAny: what no type allows is what this file is about
type Anything = any;

describe("a bad option of a node is refused by its name, and nothing is made on disk", () => {
  test.each<[string, Anything, RegExp]>([
    ["no options", undefined, /options must be an object, not undefined/],
    ["no id", { id: undefined }, /id must be a text that is not empty, not undefined/],
    ["a number as id", { id: 5 }, /id must be a text that is not empty, not 5/],
    ["no directory", { directory: undefined }, /directory must be a text that is not empty, not undefined/],
    ["no machine", { openMachine: undefined }, /openMachine must be a function, not undefined/],
    ["an id of two words", { id: "a b" }, /node id "a b" must be 1 to 64 characters/],
    ["a cluster id of two words", { clusterId: "a b" }, /cluster id "a b" must be 1 to 64 characters/],
    ["a member of two words", { members: [{ id: "a b", address: "", role: "voter" }] }, /"a b" must be 1 to 64/],
    ["members as text", { members: "n1" }, /members must be a list of { id, address, role }, not "n1"/],
    ["a member without role", { members: [{ id: "n1", address: "a:1" }] }, /member\.role must be "voter" or "learner"/],
    ["unknown elections", { elections: "never" }, /elections must be "automatic" or "manual", not "never"/],
    ["unknown reads", { reads: 1 }, /reads must be "quorum" or "lease", not 1/],
    ["a tick as text", { tickMs: "100" }, /tickMs must be above 0, not "100"/],
    ["half a tick", { electionTicks: 2.5 }, /electionTicks must be a whole number from 1, not 2\.5/],
    ["bytes below 0", { trailingLogBytes: -1 }, /trailingLogBytes must be a number from 0, not -1/],
    ["a policy of 0 entries", { snapshots: { entries: 0 } }, /snapshots\.entries must be above 0, not 0/],
    ["a policy that is true", { snapshots: true }, /snapshots must be an object, not true/],
    ["a logger without levels", { logger: {} }, /logger\.debug must be a function, not undefined/],
    ["a clock that cannot wait", { clock: { now: () => 0 } }, /clock\.after must be a function/],
    ["onFatal that is no function", { onFatal: "exit" }, /onFatal must be a function, not "exit"/],
  ])("for %s", async (_, wrong, text) => {
    const directory = await temporaryDirectory();
    const options = wrong && { id: "n1", directory, openMachine: openKeyValueMachine, ...wrong };
    await failure("INVALID_ARGUMENT", CairnNode.start(options), text);
    expect(await readdir(directory)).toEqual([]);
  });
});

test("a bad argument of a node's method is refused by its name, and the node keeps running", async () => {
  const node = (await memoryHome().startLeader()) as Anything;
  for (const [call, text] of [
    [() => node.propose(), "the command must be a Uint8Array, not undefined"],
    [() => node.propose("put"), 'the command must be a Uint8Array, not "put"'],
    [() => node.propose(new Uint8Array(1), 500), "signal must be an AbortSignal, not 500"],
    [() => node.linearizableRead(null), "signal must be an AbortSignal, not null"],
    [() => node.waitApplied("3"), 'index must be a whole number from 0, not "3"'],
    [() => node.takeSnapshot(), "request must be an object, not undefined"],
    [() => node.takeSnapshot({ index: "3" }), 'index must be a number from 0, not "3"'],
    [() => node.compact(), "index must be a whole number from 0, not undefined"],
    [() => node.campaign({}), "signal must be an AbortSignal, not an object"],
    [() => node.transferLeadership(2), "to must be a text that is not empty, not 2"],
    [() => node.changeMembership("n2"), 'change must be an object, not "n2"'],
    [() => node.changeMembership({ type: "demote", id: "n2" }), "change.type must be"],
    [() => node.changeMembership({ type: "add_learner", id: "n2" }), "change.address must be a text, not undefined"],
    [() => CairnServer.start(node, undefined as Anything), "options must be an object, not undefined"],
    [() => CairnServer.start(node, {} as Anything), "listen must be a text that is not empty, not undefined"],
  ] as const) {
    expect((await failure("INVALID_ARGUMENT", call)).text).toContain(text);
  }
  await node.linearizableRead();
});
