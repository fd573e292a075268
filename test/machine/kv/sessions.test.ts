import { describe, expect, test } from "vitest";
import { CommandOutcome } from "../../../gen/cairn/v1/storage_pb.js";
import { DEFAULT_SESSION_LIMITS } from "../../../src/machine/kv/session_limits.js";
import {
  applyCommand,
  applyOperation,
  cas,
  contents,
  entry,
  getCommand,
  inPieces,
  machines,
  metaAt,
  payloadOf,
  put,
  request,
  resultHex,
  text,
  uncheckedBytes,
} from "../../support/machines/machines.js";

const { OK, RETRY_TOO_OLD, SESSION_EXPIRED } = CommandOutcome;

describe.each(machines)("the session table of the $kind machine", ({ make }) => {
  test("gives a retry the same answer, byte for byte, without a second effect", async () => {
    const machine = await make();
    applyOperation(machine, put("k", "first"));
    const original = applyCommand(machine, request("c", 1, cas("k", "other", "x")));
    applyOperation(machine, put("k", "other"));
    const retry = applyCommand(machine, request("c", 1, cas("k", "other", "x")));
    expect(resultHex(retry)).toBe(resultHex(original));
    expect(retry).toMatchObject({ outcome: CommandOutcome.MISMATCH, index: 2n, version: 1n });
    expect(text(retry.value)).toBe("first");
    expect(contents(machine)).toEqual(["k=other@3"]);
  });

  test("gives a retry its answer even when the first try is in the same batch", async () => {
    const machine = await make();
    const data = uncheckedBytes(request("c", 1, put("k", "v")));
    const results = machine.apply([entry(1, data), entry(2, data)]);
    expect(results.map(({ result }) => result!.index)).toEqual([1n, 1n]);
    expect(contents(machine)).toEqual(["k=v@1"]);
  });

  test("remembers a get with a request id like any other command", async () => {
    const machine = await make();
    applyOperation(machine, put("k", "1"));
    applyCommand(machine, request("c", 1, getCommand("k")));
    applyOperation(machine, put("k", "2"));
    expect(text(applyCommand(machine, request("c", 1, getCommand("k"))).value)).toBe("1");
  });

  test("hides the answers of one client from another", async () => {
    const machine = await make();
    applyCommand(machine, request("a", 1, put("k", "1")));
    expect(applyCommand(machine, request("ab", 1, put("k", "2"))).index).toBe(2n);
    expect(applyCommand(machine, request("a", 1, put("k", "3"))).index).toBe(1n);
    expect(contents(machine)).toEqual(["k=2@2"]);
    expect(machine.sessionCount).toBe(2);
  });

  test("forgets acknowledged answers, and then reports their retries as too old", async () => {
    const machine = await make();
    for (const sequence of [1, 2, 3]) applyCommand(machine, request("c", sequence, put("k", `${sequence}`)));
    applyCommand(machine, request("c", 4, put("k", "4"), 2));
    const late = applyCommand(machine, request("c", 2, put("k", "again")));
    expect(late).toMatchObject({ outcome: RETRY_TOO_OLD, index: 5n });
    expect(applyCommand(machine, request("c", 3, put("k", "again"))).index).toBe(3n);
    expect(contents(machine)).toEqual(["k=4@4"]);
  });

  test("takes an acknowledgement from a retry, too", async () => {
    const machine = await make();
    applyCommand(machine, request("c", 1, put("k", "1")));
    applyCommand(machine, request("c", 2, put("k", "2")));
    applyCommand(machine, request("c", 2, put("k", "2"), 1));
    expect(applyCommand(machine, request("c", 1, put("k", "again"))).outcome).toBe(RETRY_TOO_OLD);
  });

  test("does not lower the floor for an older acknowledgement", async () => {
    const machine = await make();
    applyCommand(machine, request("c", 5, put("k", "5"), 4));
    applyCommand(machine, request("c", 6, put("k", "6"), 1));
    expect(applyCommand(machine, request("c", 3, put("k", "3"))).outcome).toBe(RETRY_TOO_OLD);
    expect(applyCommand(machine, request("c", 5, put("k", "again"))).index).toBe(1n);
  });

  test("carries out sequences above the floor in whatever order they come", async () => {
    const machine = await make();
    applyCommand(machine, request("c", 9, put("nine", "9"), 3));
    expect(applyCommand(machine, request("c", 4, put("four", "4"))).outcome).toBe(OK);
    expect(applyCommand(machine, request("c", 4, put("four", "again"))).index).toBe(2n);
    expect(contents(machine)).toEqual(["four=4@2", "nine=9@1"]);
  });

  test("forgets the lowest sequence over the limit of answers, and raises the floor", async () => {
    const machine = await make({ ...DEFAULT_SESSION_LIMITS, sessions: 10, answers: 3 });
    for (const sequence of [4, 2, 8, 6]) applyCommand(machine, request("c", sequence, put("k", `${sequence}`)));
    expect(applyCommand(machine, request("c", 2, put("k", "again"))).outcome).toBe(RETRY_TOO_OLD);
    expect(applyCommand(machine, request("c", 1, put("k", "again"))).outcome).toBe(RETRY_TOO_OLD);
    expect(applyCommand(machine, request("c", 4, put("k", "again"))).index).toBe(1n);
    // A new lowest one is carried out, and forgotten at once.
    expect(applyCommand(machine, request("c", 3, put("k", "3"))).outcome).toBe(OK);
    expect(applyCommand(machine, request("c", 3, put("k", "3"))).outcome).toBe(RETRY_TOO_OLD);
  });

  test("forgets the session unused for longest over the limit of sessions", async () => {
    const machine = await make({ ...DEFAULT_SESSION_LIMITS, sessions: 2, answers: 3 });
    applyCommand(machine, request("a", 1, put("a", "1")));
    applyCommand(machine, request("b", 1, put("b", "1")));
    applyCommand(machine, request("a", 1, put("a", "retry counts as a use")));
    applyCommand(machine, request("c", 1, put("c", "1")));
    expect(machine.sessionCount).toBe(2);
    expect(applyCommand(machine, request("a", 1, put("a", "again"))).index).toBe(1n);
    // b is forgotten, and may not come again.
    expect(applyCommand(machine, request("b", 1, put("b", "again")))).toMatchObject({
      outcome: SESSION_EXPIRED,
      index: 6n,
    });
    expect(applyCommand(machine, request("c", 1, put("c", "again"))).index).toBe(4n);
    expect(contents(machine)).toEqual(["a=1@1", "b=1@2", "c=1@4"]);
    expect(machine.sessionCount).toBe(2);
  });

  test("counts a request that is too old as a use of the session", async () => {
    const machine = await make({ ...DEFAULT_SESSION_LIMITS, sessions: 2, answers: 3 });
    applyCommand(machine, request("a", 5, put("a", "1"), 4));
    applyCommand(machine, request("b", 1, put("b", "1")));
    expect(applyCommand(machine, request("a", 2, put("a", "2"))).outcome).toBe(RETRY_TOO_OLD);
    applyCommand(machine, request("c", 1, put("c", "1")));
    expect(applyCommand(machine, request("a", 5, put("a", "again"))).index).toBe(1n);
  });

  test("leaves nothing of a forgotten session in the payload", async () => {
    const one = await make({ ...DEFAULT_SESSION_LIMITS, sessions: 1, answers: 3 });
    applyCommand(one, request("evicted", 1, put("k", "1")));
    applyCommand(one, request("kept", 1, put("k", "2"), 0, 1));
    expect((await payloadOf(one)).includes("evicted")).toBe(false);
  });

  test("keeps the order of eviction over a restore", async () => {
    const sessionLimits = { ...DEFAULT_SESSION_LIMITS, sessions: 3, answers: 2 };
    const before = await make(sessionLimits);
    for (const client of ["z", "a", "m"]) applyCommand(before, request(client, 1, put("k", client)));
    applyCommand(before, request("z", 1, put("k", "retry")));
    const after = await make(sessionLimits);
    await after.restore(inPieces(await payloadOf(before), 10), metaAt({ index: 4, term: 1 }));
    for (const machine of [before, after]) applyCommand(machine, request("new", 1, put("k", "new")));
    expect(await payloadOf(after)).toEqual(await payloadOf(before));
    expect(applyCommand(after, request("a", 1, put("k", "again"))).outcome).toBe(SESSION_EXPIRED);
    expect(applyCommand(after, request("z", 1, put("k", "again"))).index).toBe(1n);
  });

  test("keeps every character of client ids", async () => {
    const machine = await make();
    const ids = ["\u{feff}c", "c", "c\0", "é", "\u{1f600}", "\u{ffff}"];
    ids.forEach((id, at) => void applyCommand(machine, request(id, 1, put(`${at}`, "v"))));
    expect(machine.sessionCount).toBe(ids.length);
    const other = await make();
    await other.restore(inPieces(await payloadOf(machine), 1000), metaAt({ index: ids.length, term: 1 }));
    const answers = ids.map((id) => Number(applyCommand(other, request(id, 1, put("x", "again"))).index));
    expect(answers).toEqual([1, 2, 3, 4, 5, 6]);
  });
});
