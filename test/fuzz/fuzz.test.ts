import type { DescMessage } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { Random } from "../support/random.js";
import { runLane } from "./run/lane.js";
import { expectThat, type Target } from "./run/target.js";
import { encoded } from "./targets/decoders/commands.js";
import { expectRefusal } from "./targets/decoders/decoder.js";
import { decoders } from "./targets/decoders/decoders.js";
import { files } from "./targets/files/files.js";
import { type Facts, GUARDED, hintsFor } from "./targets/services/facts.js";
import { isHarmless } from "./targets/services/harmless.js";
import { keyValueMethods, machineMethods } from "./targets/services/methods.js";
import { drawCall } from "./targets/services/plans.js";

const SEED = 20_261_129;

/** A target that finds something in the one case in which a draw is above a bound. */
function picky(drawn: number[]): Target {
  return {
    name: "picky",
    round: 10,
    prepare: async () => {},
    run(random: Random, trace) {
      const number = random.whole(1, 100);
      drawn.push(number);
      trace(`drew ${number}`);
      expectThat(number <= 98, () => `${number} is too much`);
      return 1;
    },
    check: async () => {},
    close: async () => {},
  };
}

describe("the fuzz", () => {
  test("finds nothing in a few hundred cases of decoders and of damaged directories", async () => {
    const decoded = await runLane([decoders()], { seed: SEED, ms: 0, cases: [0, 600] });
    expect(decoded.found).toEqual([]);
    expect(decoded.messages).toEqual({ decoders: 601 });
    const started = await runLane([files({ withProcesses: false })], { seed: SEED, ms: 0, cases: [0, 60] });
    expect(started.found).toEqual([]);
    expect(started.messages).toEqual({ files: 61 });
  });

  test("names the case that finds something, and what it did; the case alone finds the same", async () => {
    const drawn: number[] = [];
    const { found } = await runLane([picky(drawn)], { seed: SEED, ms: 60_000 });
    const [finding] = found;
    expect(finding).toMatchObject({ target: "picky", first: drawn.length - 1, last: drawn.length - 1 });
    expect(finding!.trace).toEqual([`drew ${drawn.at(-1)}`]);
    const again = await runLane([picky([])], { seed: SEED, ms: 0, cases: [finding!.first, finding!.last] });
    expect(again.found).toEqual(found);
  });

  test("takes an error that is no refusal for a bug", () => {
    expect(() => expectRefusal(new TypeError("x is not a function"))).toThrow(/threw no CairnError/);
  });
});

describe("calls of the fuzz", () => {
  const incarnations = new Map(["n1", "n2", "n3"].map((id, at) => [id, Buffer.alloc(16, at)]));
  const facts: Facts = {
    ...{ clusterId: "c".repeat(32), incarnations, term: 7n, leaderId: "n1", commitIndex: 40n, lastIndex: 42n },
  };

  test("are drawn for every method of every service, the same ones for the same seed", () => {
    const methods = [...keyValueMethods(), ...machineMethods()];
    const services = new Set(methods.map(({ parent }) => parent.typeName));
    expect([...services].sort()).toEqual([
      ...["AdminService", "KeyValueService", "LeaseService", "MachineService", "RaftService"].map(
        (n) => `cairn.v1.${n}`,
      ),
      ...["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"],
    ]);
    for (const method of methods) {
      const source = { method, hints: hintsFor(facts, "n2"), recorded: [], isHarmless: () => true };
      const draw = () => Array.from({ length: 5 }, (_, at) => drawCall(new Random(at), source));
      expect(draw()).toEqual(draw());
      expect(draw().some(({ plan }) => plan.pieces.length > 0)).toBe(true);
    }
  });

  test.each([
    ["the removal of a member", AdminService.method.removeMember, { nodeId: "n1" }],
    [
      "a learner at an address that is not of this machine",
      AdminService.method.addLearner,
      { nodeId: "fz1", address: "a:1" },
    ],
    ["a delete of a guarded key", KeyValueService.method.delete, { key: Buffer.from(`${GUARDED}1`) }],
    ["a transaction that deletes all keys", KeyValueService.method.txn, { then: [deleteAll()] }],
    ["a forged message of the leader", RaftService.method.appendEntries, { term: 7n, leaderId: "n1" }],
    ["entries of a forged leader", RaftService.method.appendEntries, { term: 8n, prevLogIndex: 42n }],
    ["a far term", RaftService.method.requestVote, { term: 1_000_000n }],
  ])("leave out %s", (_what, method, fields) => {
    const schema: DescMessage = method.input;
    expect(isHarmless(method, encoded(schema, fields), facts)).toBe(false);
  });

  test("keep a put of another key, and a message of a deposed leader", () => {
    const { put } = KeyValueService.method;
    expect(isHarmless(put, encoded(put.input, { key: Buffer.from("f/1") }), facts)).toBe(true);
    const { appendEntries } = RaftService.method;
    expect(isHarmless(appendEntries, encoded(appendEntries.input, { term: 6n, leaderId: "n1" }), facts)).toBe(true);
  });
});

function deleteAll() {
  return { operation: { case: "deleteRange", value: { keys: {} } } } as const;
}
