import { describe, expect, test } from "vitest";
import { CommandOutcome } from "../../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../../src/base/limits.js";
import type { KeyValueMachine } from "../../../../src/machine/kv/key_value_machine.js";
import { NEWEST_RULES, sessionRules } from "../../../../src/machine/kv/session_limits.js";
import {
  applyCommand,
  applyOperation,
  bytes,
  cas,
  contents,
  del,
  expire,
  getCommand,
  grant,
  keepAlive,
  leasedPut,
  leasesOf,
  load,
  machines,
  newest,
  payloadOf,
  put,
  request,
  revoke,
  type StepInit,
  txn,
} from "../../../support/machines/machines.js";

const { OK, NOT_FOUND, MISMATCH, INVALID, LEASE_NOT_FOUND, LIMIT_EXCEEDED } = CommandOutcome;

const apply = (machine: KeyValueMachine, operation: Parameters<typeof newest>[0]) =>
  applyCommand(machine, newest(operation));

describe.each(machines)("the $kind machine", ({ make }) => {
  test("names a lease after the index of its grant", async () => {
    const machine = await make();
    applyOperation(machine, put("k", "v"));
    expect(apply(machine, grant(5_000))).toMatchObject({ outcome: OK, index: 2n });
    expect(machine.lease(2)).toEqual({ id: 2, ttlMs: 5_000, keepAlives: 0, keys: 0 });
    expect(machine.lease(1)).toBeUndefined();
    expect(machine.leaseCount).toBe(1);
  });

  test("attaches a key by put, compare-and-set and transaction, and removes all keys with the lease", async () => {
    const machine = await make();
    apply(machine, grant());
    apply(machine, leasedPut("a", "1", 1));
    const swap = cas("b", 0, "1");
    apply(machine, { ...swap, value: { ...swap.value, leaseId: 1n } } as typeof swap);
    apply(machine, txn([], [leasedPut("c", "1", 1) as StepInit]));
    applyOperation(machine, put("d", "1"));
    expect(contents(machine)).toEqual(["a=1@2 of lease 1", "b=1@3 of lease 1", "c=1@4 of lease 1", "d=1@5"]);
    expect(leasesOf(machine)).toEqual(["1: 10000 ms, 0 keep-alives, keys a,b,c"]);
    expect(apply(machine, revoke(1))).toMatchObject({ outcome: OK, deleted: 3n });
    expect(contents(machine)).toEqual(["d=1@5"]);
    expect(machine.lease(1)).toBeUndefined();
    expect(apply(machine, revoke(1))).toMatchObject({ outcome: LEASE_NOT_FOUND });
  });

  test("changes nothing when a write names a lease that does not exist", async () => {
    const machine = await make();
    apply(machine, grant());
    apply(machine, leasedPut("a", "1", 1));
    expect(apply(machine, leasedPut("a", "2", 7))).toMatchObject({ outcome: LEASE_NOT_FOUND });
    expect(apply(machine, txn([], [put("b", "2") as StepInit, leasedPut("a", "2", 7) as StepInit]))).toMatchObject({
      outcome: LEASE_NOT_FOUND,
      results: [],
    });
    expect(contents(machine)).toEqual(["a=1@2 of lease 1"]);
    expect(leasesOf(machine)).toEqual(["1: 10000 ms, 0 keep-alives, keys a"]);
  });

  test("puts every key back to its lease when a transaction fails", async () => {
    const machine = await make();
    apply(machine, grant());
    apply(machine, grant());
    apply(machine, leasedPut("a", "1", 1));
    apply(machine, leasedPut("b", "1", 2));
    apply(machine, leasedPut("c", "1", 2));
    const before = await payloadOf(machine);
    const steps = [leasedPut("a", "2", 2), put("b", "2"), del("c"), leasedPut("n", "2", 1), leasedPut("x", "2", 9)];
    expect(apply(machine, txn([], steps as StepInit[]))).toMatchObject({ outcome: LEASE_NOT_FOUND });
    expect(leasesOf(machine)).toEqual(["1: 10000 ms, 0 keep-alives, keys a", "2: 10000 ms, 0 keep-alives, keys b,c"]);
    // But for the applied index, at byte 8.
    expect((await payloadOf(machine)).subarray(16)).toEqual(before.subarray(16));
  });

  test("detaches a key that is put without a lease, is deleted, or moves to another lease", async () => {
    const machine = await make();
    apply(machine, grant());
    apply(machine, grant());
    for (const key of ["a", "b", "c", "d"]) apply(machine, leasedPut(key, "1", 1));
    applyOperation(machine, put("a", "2"));
    applyOperation(machine, del("b"));
    apply(machine, leasedPut("c", "2", 2));
    apply(machine, txn([], [{ case: "deleteRange", value: { keys: { prefix: bytes("d") } } }]));
    expect(leasesOf(machine)).toEqual(["1: 10000 ms, 0 keep-alives, keys ", "2: 10000 ms, 0 keep-alives, keys c"]);
    expect(apply(machine, revoke(1))).toMatchObject({ outcome: OK, deleted: 0n });
    expect(contents(machine)).toEqual(["a=2@7", "c=2@9 of lease 2"]);
    expect(apply(machine, expire([2, 0]))).toMatchObject({ outcome: OK });
    expect(contents(machine)).toEqual(["a=2@7"]);
  });

  test("keeps a key's lease when a conditional write does not match", async () => {
    const machine = await make();
    apply(machine, grant());
    apply(machine, leasedPut("a", "1", 1));
    expect(apply(machine, cas("a", "other", "2"))).toMatchObject({ outcome: MISMATCH });
    const deletion = { case: "delete", value: { key: bytes("a"), ifVersion: 7n } } as const;
    expect(apply(machine, deletion)).toMatchObject({ outcome: MISMATCH });
    expect(leasesOf(machine)).toEqual(["1: 10000 ms, 0 keep-alives, keys a"]);
    expect(apply(machine, { ...deletion, value: { ...deletion.value, ifVersion: 2n } })).toMatchObject({ outcome: OK });
    expect(leasesOf(machine)).toEqual(["1: 10000 ms, 0 keep-alives, keys "]);
  });

  test("an expiry takes effect only on the number of keep-alives that it names", async () => {
    const machine = await make();
    apply(machine, grant());
    apply(machine, grant());
    apply(machine, leasedPut("a", "1", 1));
    apply(machine, leasedPut("b", "1", 2));
    const kept = apply(machine, keepAlive(1, 3));
    expect(kept.leases).toMatchObject([{ leaseId: 1n, ttlMs: 10_000, keepAlives: 1n, keys: 1 }]);
    const expired = apply(machine, expire([1, 0], [2, 0], [3, 0]));
    expect(expired.leases).toMatchObject([{ leaseId: 2n, keys: 1 }]);
    expect(contents(machine)).toEqual(["a=1@3 of lease 1"]);
    expect(apply(machine, expire([1, 2])).leases).toEqual([]);
    expect(apply(machine, expire([1, 1])).leases).toMatchObject([{ leaseId: 1n }]);
    expect(machine.keyCount).toBe(0);
  });

  test("an expiry removes a bounded number of keys, and names the leases that have ended", async () => {
    const machine = await make();
    for (let lease = 1; lease <= 3; lease++) apply(machine, grant());
    const half = limits.expiryKeys / 2 + 1;
    for (let n = 0; n < half; n++) {
      apply(machine, txn([], [leasedPut(`a${n}`, "", 1), leasedPut(`b${n}`, "", 2)] as StepInit[]));
    }
    const first = apply(machine, expire([1, 0], [2, 0], [3, 0]));
    expect(first.leases.map(({ leaseId }) => leaseId)).toEqual([1n]);
    expect(machine.keyCount).toBe(half);
    const second = apply(machine, expire([2, 0], [3, 0]));
    expect(second.leases.map(({ leaseId }) => leaseId)).toEqual([2n, 3n]);
    expect(machine.keyCount).toBe(0);
  });

  test("bounds the keys of a lease, and says which limit it is", async () => {
    const machine = await make();
    apply(machine, grant());
    const steps = limits.txnOperations;
    for (let from = 0; from < limits.leaseKeys; from += steps) {
      const count = Math.min(steps, limits.leaseKeys - from);
      const puts = Array.from({ length: count }, (_, n) => leasedPut(`k${from + n}`, "", 1) as StepInit);
      expect(apply(machine, txn([], puts))).toMatchObject({ outcome: OK });
    }
    expect(apply(machine, leasedPut("more", "", 1))).toMatchObject({ outcome: LIMIT_EXCEEDED, limit: "leaseKeys" });
    expect(apply(machine, txn([], [leasedPut("more", "", 1) as StepInit]))).toMatchObject({
      outcome: LIMIT_EXCEEDED,
      limit: "leaseKeys",
    });
    // A key that it has already may be written again.
    expect(apply(machine, leasedPut("k0", "again", 1))).toMatchObject({ outcome: OK });
    expect(apply(machine, expire([1, 0])).leases).toMatchObject([{ keys: limits.leaseKeys }]);
    expect(machine.keyCount).toBe(0);
  });

  test("tells the lease of a key in the reads of a transaction", async () => {
    const machine = await make();
    apply(machine, grant());
    apply(machine, leasedPut("a", "1", 1));
    applyOperation(machine, put("b", "1"));
    const reads = [getCommand("a"), getCommand("b"), { case: "range", value: { keys: {} } }] as StepInit[];
    const [a, b, all] = apply(machine, txn([], reads)).results;
    expect([a!.leaseId, b!.leaseId]).toEqual([1n, 0n]);
    expect(all!.records.map(({ leaseId }) => leaseId)).toEqual([1n, 0n]);
  });

  test("a load ends all leases", async () => {
    const machine = await make();
    apply(machine, grant());
    apply(machine, leasedPut("a", "1", 1));
    applyOperation(machine, load(["a", "2"]));
    expect(contents(machine)).toEqual(["a=2@3"]);
    expect(leasesOf(machine)).toEqual([]);
    expect(apply(machine, leasedPut("a", "3", 1))).toMatchObject({ outcome: LEASE_NOT_FOUND });
  });

  test("lists leases in the order of their ids, in parts", async () => {
    const machine = await make();
    for (let lease = 1; lease <= 5; lease++) apply(machine, grant(1_000 * lease));
    apply(machine, revoke(3));
    expect(machine.leases(0, 2).map(({ id }) => id)).toEqual([1, 2]);
    expect(machine.leases(2, 10).map(({ id }) => id)).toEqual([4, 5]);
    expect(machine.leases(5, 10)).toEqual([]);
  });

  test("gives a retried grant the same lease, and a retried revoke the same answer", async () => {
    const machine = await make();
    const granting = { ...request("c", 1, grant()), rules: NEWEST_RULES };
    const revoking = { ...request("c", 2, revoke(1)), rules: NEWEST_RULES };
    expect(applyCommand(machine, granting)).toMatchObject({ outcome: OK, index: 1n });
    expect(applyCommand(machine, granting)).toMatchObject({ outcome: OK, index: 1n });
    expect(machine.leaseCount).toBe(1);
    expect(applyCommand(machine, revoking)).toMatchObject({ outcome: OK });
    expect(applyCommand(machine, revoking)).toMatchObject({ outcome: OK });
  });

  test("takes no command with leases for one of earlier rules", async () => {
    const machine = await make();
    apply(machine, grant());
    const earlier = { rules: sessionRules.wide };
    for (const operation of [grant(), keepAlive(1), revoke(1), expire([1, 0]), leasedPut("a", "", 1)]) {
      expect(applyCommand(machine, { ...earlier, operation })).toMatchObject({ outcome: INVALID });
    }
    expect(machine.leaseCount).toBe(1);
    expect(applyOperation(machine, del("a"))).toMatchObject({ outcome: NOT_FOUND });
  });

  test("a state without leases has the bytes of its earlier rules", async () => {
    const machine = await make();
    applyCommand(machine, request("c", 1, put("k", "v")));
    expect((await payloadOf(machine))[7]).toBe(sessionRules.wide);
    apply(machine, grant());
    expect((await payloadOf(machine))[7]).toBe(NEWEST_RULES);
  });
});
