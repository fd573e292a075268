import { describe, expect, onTestFinished, test } from "vitest";
import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import { encodeCommand } from "../../../src/machine/kv/command.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import { LeaseKeeper } from "../../../src/server/leases/lease_keeper.js";
import { ManualClock, manyTurns, until } from "../../support/conditions.js";
import {
  applyBytes,
  applyCommand,
  type CommandInit,
  expire,
  grant,
  keepAlive,
  leasedPut,
  newest,
} from "../../support/machines/machines.js";
import { contentsOf } from "../../support/nodes/acting_leader.js";
import { memoryHome } from "../../support/nodes/nodes.js";

/** A leader with leases, and the keeper of its leases on a clock of the test's own. */
async function leader() {
  const home = memoryHome();
  const node = await home.startLeader();
  return { home, node, ...keeperOf(node) };
}

function keeperOf(node: KeyValueNode) {
  const clock = new ManualClock();
  const keeper = new LeaseKeeper(node, clock);
  keeper.start();
  onTestFinished(() => keeper.stop());
  /** Lets time pass, and the keeper look; proposals that it makes are carried out. */
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= limits.leaseLookMs) {
      clock.advance(Math.min(left, limits.leaseLookMs));
      await manyTurns();
    }
  };
  return { clock, keeper, pass };
}

/** A node without a log or disk, whose role and term are the test's to set. */
class SetNode {
  readonly machine = new MemoryMachine();
  refusal: CairnError | undefined;
  readonly raft = {
    role: "leader",
    term: 1,
    /** Term of the entry that was applied last. */
    appliedTerm: 1,
    log: { termAt: () => this.raft.appliedTerm },
  };

  apply(operation: Parameters<typeof newest>[0]): CommandResult {
    return applyCommand(this.machine, newest(operation), this.raft.appliedTerm);
  }

  async propose(data: Uint8Array) {
    if (this.refusal !== undefined) throw this.refusal;
    return { index: this.machine.appliedIndex + 1, result: applyBytes(this.machine, data, this.raft.appliedTerm) };
  }
}

/** A leader that is only played, and the keeper of its leases. */
function led() {
  const node = new SetNode();
  return { node, ...keeperOf(node as unknown as KeyValueNode) };
}

async function propose(node: KeyValueNode, operation: Parameters<typeof newest>[0]) {
  const { result } = await node.propose(encodeCommand(newest(operation) as CommandInit));
  return result;
}

describe("the keeper of a leader", () => {
  test("ends a lease after its time, with its keys, at one index", async () => {
    const { node, keeper, pass } = await leader();
    const { index } = await propose(node, grant(2_000));
    keeper.granted(Number(index));
    for (const key of ["a", "b"]) await propose(node, leasedPut(key, "1", Number(index)));
    await pass(1_900);
    expect(contentsOf(node)).toEqual(["a=1", "b=1"]);
    const before = node.machine.appliedIndex;
    await pass(400);
    expect(contentsOf(node)).toEqual([]);
    expect(node.machine.leaseCount).toBe(0);
    expect(node.machine.appliedIndex).toBe(before + 1);
  });

  test("finds a lease whose grant nobody has told it of, and gives it its full time", async () => {
    const { node, clock, keeper, pass } = await leader();
    await pass(200);
    const { index } = await propose(node, grant(2_000));
    await pass(200);
    expect(keeper.remainingMs({ id: Number(index), ttlMs: 2_000 })).toBeGreaterThan(1_700);
    const start = clock.now();
    await pass(1_900);
    expect(node.machine.leaseCount).toBe(1);
    await pass(600);
    expect(node.machine.leaseCount).toBe(0);
    expect(clock.now() - start).toBeLessThan(2_600);
  });

  test("gives a lease its full time again when a keep-alive was committed that nobody has told it of", async () => {
    const { node, keeper, pass } = await leader();
    const { index } = await propose(node, grant(2_000));
    keeper.granted(Number(index));
    await pass(1_800);
    await propose(node, keepAlive(Number(index)));
    await pass(1_800);
    expect(node.machine.leaseCount).toBe(1);
    await pass(1_000);
    expect(node.machine.leaseCount).toBe(0);
  });

  test("does not end a lease whose keep-alive overtakes the decision", async () => {
    const { node, keeper, pass } = await leader();
    const { index } = await propose(node, grant(2_000));
    keeper.granted(Number(index));
    await propose(node, keepAlive(Number(index)));
    // A decision on the count before.
    expect((await propose(node, expire([Number(index), 0]))).leases).toEqual([]);
    await pass(1_500);
    expect(node.machine.leaseCount).toBe(1);
  });

  test("gives every lease its full time when it begins to lead, and only then measures", async () => {
    const home = memoryHome();
    const first = await home.startLeader();
    const { index } = await propose(first, grant(3_000));
    await home.stop(first);
    const node = await home.start();
    const { keeper, pass } = keeperOf(node);
    await pass(10_000);
    expect(node.machine.leaseCount).toBe(1);
    expect(keeper.remainingMs({ id: Number(index), ttlMs: 3_000 })).toBe(3_000);
    await node.campaign();
    await pass(2_800);
    expect(node.machine.leaseCount).toBe(1);
    await pass(1_000);
    expect(node.machine.leaseCount).toBe(0);
  });

  test("gives every lease its full time again when the same process leads once more", async () => {
    const { node, clock, keeper, pass } = led();
    node.apply(grant(3_000));
    await pass(2_900);
    node.raft.role = "follower";
    node.raft.term = 2;
    await pass(50);
    Object.assign(node.raft, { role: "leader", term: 3 });
    // An entry of its own term is not applied yet.
    await pass(10_000);
    expect(node.machine.leaseCount).toBe(1);
    expect(keeper.remainingMs({ id: 1, ttlMs: 3_000 })).toBe(3_000);
    node.raft.appliedTerm = 3;
    await pass(200);
    const start = clock.now();
    await pass(2_700);
    expect(node.machine.leaseCount).toBe(1);
    await pass(1_000);
    expect(node.machine.leaseCount).toBe(0);
    expect(clock.now() - start).toBeGreaterThan(2_900);
  });

  test("tries again to end a lease when the entry could not be proposed", async () => {
    const { node, pass } = led();
    node.apply(grant(1_000));
    node.refusal = new CairnError("DISK_FULL", "no room");
    await pass(3_000);
    expect(node.machine.leaseCount).toBe(1);
    node.refusal = undefined;
    await pass(400);
    expect(node.machine.leaseCount).toBe(0);
  });

  test("ends many leases in entries of a bounded size, one under way at a time", async () => {
    const { node, clock, pass } = await leader();
    const count = 2 * limits.expiryLeases + 10;
    for (let lease = 0; lease < count; lease += 100) {
      await Promise.all(Array.from({ length: Math.min(100, count - lease) }, () => propose(node, grant(1_000))));
    }
    await pass(400);
    const before = node.machine.appliedIndex;
    await pass(1_000);
    await until(() => {
      clock.advance(limits.leasePauseMs);
      return node.machine.leaseCount === 0;
    }, "all leases have ended");
    expect(node.machine.appliedIndex - before).toBe(3);
  });

  test("stops: no lease ends from then on", async () => {
    const { node, clock, keeper, pass } = await leader();
    const { index } = await propose(node, grant(1_000));
    keeper.granted(Number(index));
    keeper.stop();
    await pass(5_000);
    expect(node.machine.leaseCount).toBe(1);
    expect(clock.pending).toBe(0);
  });
});
