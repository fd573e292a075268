import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { CommandSchema } from "../../gen/cairn/v1/storage_pb.js";
import { InvariantViolation } from "../../src/base/assert.js";
import { CairnError } from "../../src/base/errors.js";
import { membershipCodec } from "../../src/encoding/membership.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { NEWEST_RULES } from "../../src/machine/kv/session_limits.js";
import type { KeyValueNode } from "../../src/server/kv/key_value_node.js";
import { failure, ManualClock, manyTurns, until } from "../support/conditions.js";
import { ActingLeader, bytes, putCommand, putEntries, readValue, snapshotOf } from "../support/nodes/acting_leader.js";
import { type MemoryHome, memoryHome } from "../support/nodes/nodes.js";

async function nodeWith(home: MemoryHome, settings: object = {}) {
  const errors: unknown[] = [];
  const node = await home.startLeader({ ...settings, onFatal: (error: unknown) => errors.push(error) });
  await node.propose(putCommand("a", "1"));
  return { node, errors };
}

/** It has stopped, told why exactly once, and answers every call with an error. */
async function expectDead(home: MemoryHome, node: KeyValueNode, errors: unknown[]): Promise<void> {
  await until(() => errors.length > 0, "the node says that it cannot go on");
  await failure("STOPPED", node.propose(putCommand("b", "1")));
  await failure("STOPPED", node.linearizableRead());
  await failure("STOPPED", node.waitApplied(99));
  await failure("STOPPED", node.takeSnapshot({}));
  await failure("STOPPED", node.campaign());
  await failure("STOPPED", new ActingLeader(node, 9).append([], 0, { index: 0, term: 0 }));
  await failure("STOPPED", new ActingLeader(node, 9).offer(await snapshotOf(putEntries(1, 500))));
  await node.stop();
  await home.crash(node);
  await manyTurns();
  expect(errors).toHaveLength(1);
  await home.expectNoLeaks();
}

describe("a node whose disk contents are no longer known stops", () => {
  test("when a sync of the log fails", async () => {
    const home = memoryHome();
    const { node, errors } = await nodeWith(home);
    home.disk.failCall("datasync");
    const writes = Array.from({ length: 10 }, (_, at) =>
      failure("OUTCOME_UNKNOWN", node.propose(putCommand("c", `${at}`))),
    );
    const waiting = failure("STOPPED", node.waitApplied(99));
    await Promise.all([...writes, waiting]);
    await expectDead(home, node, errors);
    expect(errors[0]).toMatchObject({ code: "STORAGE_FAILED" });
    // A later start finds out what is on the disk.
    expect(readValue(await home.startLeader(), "a")).toBe("1");
  });

  test("when a sync of the log fails, and what the next start acknowledges survives a power failure", async () => {
    const home = memoryHome();
    const { node, errors } = await nodeWith(home);
    home.disk.failCall("datasync");
    await failure("OUTCOME_UNKNOWN", node.propose(putCommand("c", "1")));
    await expectDead(home, node, errors);
    // The log is read back from memory, and the write is answered when its client asks again.
    const again = await home.startLeader();
    expect(readValue(again, "c")).toBe("1");
    const after = await home.powerCut("none");
    expect(readValue(await after.startLeader(), "c")).toBe("1");
    await after.close();
  });

  test("when a sync of a snapshot that is being taken fails", async () => {
    const home = memoryHome();
    const { node, errors } = await nodeWith(home);
    home.disk.failCall("datasync");
    await failure("STORAGE_FAILED", node.takeSnapshot({}));
    await expectDead(home, node, errors);
  });

  test("when the last sync of a snapshot that is being received fails", async () => {
    const home = memoryHome();
    const { node, errors } = await nodeWith(home);
    const leader = new ActingLeader(node, 2);
    const snapshot = await snapshotOf(putEntries(1, 500));
    const incoming = await leader.offer(snapshot);
    await leader.send(incoming, snapshot);
    home.disk.failCall("datasync");
    await failure("STORAGE_FAILED", incoming.finish());
    await expectDead(home, node, errors);
  });

  test("when the sync of the directory fails while a received snapshot is published", async () => {
    const home = memoryHome();
    const { node, errors } = await nodeWith(home);
    home.disk.failCall("syncDirectory");
    await failure("STOPPED", new ActingLeader(node, 2).install(await snapshotOf(putEntries(1, 500))));
    await expectDead(home, node, errors);
  });
});

test("a node whose state machine fails to apply stops", async () => {
  const home = memoryHome();
  class FailingMachine extends MemoryMachine {
    override apply(...entries: Parameters<MemoryMachine["apply"]>) {
      if (this.appliedIndex >= 2) throw new CairnError("STORAGE_FAILED", "the state failed");
      return super.apply(...entries);
    }
  }
  const { node, errors } = await nodeWith(home, { openMachine: async () => new FailingMachine() });
  await failure("OUTCOME_UNKNOWN", node.propose(putCommand("b", "1")));
  await expectDead(home, node, errors);
});

test("a node stops at a broken invariant of the core, even one that shows in a tick", async () => {
  const home = memoryHome();
  const clock = new ManualClock();
  let broken = false;
  const random = () => {
    if (broken) throw new InvariantViolation("randomness is random", {});
    return 0;
  };
  const errors: unknown[] = [];
  const node = await home.start({
    clock,
    random,
    elections: "automatic",
    electionTicks: 3,
    members: ["n1", "n2"].map((id) => ({ id, address: "", role: "voter" as const })),
    onFatal: (error) => errors.push(error),
  });
  // Several voters do not elect yet: once alone, the timer draws again.
  await new ActingLeader(node, 1, "n2").replicate([
    {
      index: 1,
      term: 1,
      type: "configuration",
      data: membershipCodec.encode([{ id: "n1", address: "", role: "voter" }]),
    },
  ]);
  broken = true;
  for (let tick = 0; tick < 10; tick++) clock.advance(100);
  await expectDead(home, node, errors);
  expect(errors[0]).toBeInstanceOf(InvariantViolation);
  expect(clock.pending).toBe(0);
});

test("a node stops at a command whose rules it does not know, so that its state does not diverge from the others' (T6)", async () => {
  const home = memoryHome();
  const { node, errors } = await nodeWith(home);
  const later = create(CommandSchema, {
    rules: NEWEST_RULES + 1,
    requestId: { clientId: "c", sequence: 1n },
    operation: { case: "put", value: { key: bytes("a"), value: bytes("2") } },
  });
  await failure("OUTCOME_UNKNOWN", node.propose(toBinary(CommandSchema, later)));
  await expectDead(home, node, errors);
  expect(errors[0]).toMatchObject({
    code: "FAILED_PRECONDITION",
    message: expect.stringContaining(`needs version ${NEWEST_RULES + 1}`),
  });
  // So does each further start.
  await failure("FAILED_PRECONDITION", home.startLeader(), `needs version ${NEWEST_RULES + 1}`);
});

test("a node does not stop at a message that no correct peer sends", async () => {
  const home = memoryHome();
  const { node, errors } = await nodeWith(home);
  const append = {
    type: "append_entries",
    from: "n9",
    term: 3,
    prev: { index: 0, term: 0 },
    entries: [],
    leaderCommit: 0,
  } as const;
  await failure("INVALID_ARGUMENT", node.appendEntries({ ...append, term: 0 }));
  await failure("INVALID_ARGUMENT", node.appendEntries({ ...append, prev: { index: 3, term: 0 } }));
  await failure("INVALID_ARGUMENT", node.appendEntries({ ...append, entries: putEntries(2, 2) }));
  await failure("INVALID_ARGUMENT", node.appendEntries({ ...append, from: "n".repeat(65) }));
  const vote = {
    type: "request_vote",
    term: 5,
    last: { index: 9, term: 4 },
    preVote: false,
    leadershipTransfer: false,
  } as const;
  await failure("INVALID_ARGUMENT", node.requestVote({ ...vote, from: "n".repeat(65) }));
  await node.propose(putCommand("b", "1"));
  expect(errors).toEqual([]);
});
