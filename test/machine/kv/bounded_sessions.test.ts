import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CommandOutcome } from "../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../src/base/limits.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import {
  DEFAULT_SESSION_LIMITS,
  largestSessionBytes,
  NEWEST_RULES,
  sessionRules,
} from "../../../src/machine/kv/session_limits.js";
import {
  applyCommand,
  applyOperation,
  type CommandInit,
  cas,
  contents,
  countedRequest,
  entry,
  getCommand,
  inPieces,
  machines,
  metaAt,
  payloadOf,
  put,
  request,
  text,
  uncheckedBytes,
} from "../../support/machines/machines.js";
import { runs } from "../../support/run/tries_all.js";

const { OK, MISMATCH, NOT_FOUND, RETRY_TOO_OLD, SESSION_EXPIRED } = CommandOutcome;

const LARGE = "L".repeat(limits.valueBytes);
/** One session of one answer at a time. */
const ONE = { ...DEFAULT_SESSION_LIMITS, sessions: 1 };

describe.each(machines)("the sessions that the $kind machine remembers", ({ make }) => {
  test("fill less than 64 KiB of snapshot on an empty store after 240 failed compare-and-sets of 60 bytes (T6)", async () => {
    const machine = await make();
    applyOperation(machine, put("k", LARGE));
    for (let at = 0; at < 240; at++) {
      const result = applyCommand(machine, request(`client ${at % 8}`, at + 1, cas("k", `${at}`.padEnd(45), "")));
      expect(result.outcome).toBe(MISMATCH);
      expect(result.value.byteLength).toBe(LARGE.length);
    }
    applyOperation(machine, { case: "delete", value: { key: Buffer.from("k") } });
    expect((await payloadOf(machine)).byteLength).toBeLessThan(64 * 1024);
  });

  test("answer a retried compare-and-set that met a long value with its version, and say that the value is forgotten (T6)", async () => {
    const machine = await make();
    applyOperation(machine, put("k", LARGE));
    const first = applyCommand(machine, request("c", 1, cas("k", "other", "x")));
    expect(first).toMatchObject({ outcome: MISMATCH, version: 1n, valueForgotten: false });
    expect(text(first.value)).toBe(LARGE);
    applyOperation(machine, put("k", "other"));
    const retry = applyCommand(machine, request("c", 1, cas("k", "other", "x")));
    expect(retry).toMatchObject({ outcome: MISMATCH, index: 2n, version: 1n, valueForgotten: true });
    expect(retry.value).toHaveLength(0);
    expect(contents(machine)).toEqual(["k=other@3"]);
  });

  test("keep a whole value of sessionValueBytes (T6)", async () => {
    const machine = await make();
    const value = "v".repeat(limits.sessionValueBytes);
    applyOperation(machine, put("k", value));
    applyCommand(machine, request("c", 1, cas("k", "other", "x")));
    applyOperation(machine, put("k", "other"));
    const retry = applyCommand(machine, request("c", 1, cas("k", "other", "x")));
    expect(retry).toMatchObject({ outcome: MISMATCH, version: 1n, valueForgotten: false });
    expect(text(retry.value)).toBe(value);
  });

  test("lose the one unused for longest over the limit of bytes, even when they are few (T6)", async () => {
    const bounds = { ...DEFAULT_SESSION_LIMITS, answers: 2, valueBytes: 100 };
    const machine = await make({ ...bounds, bytes: largestSessionBytes(bounds) });
    applyOperation(machine, put("k", "v".repeat(100)));
    for (const client of ["a", "b"]) applyCommand(machine, request(client, 1, cas("k", "other", "x")));
    applyCommand(machine, request("a", 1, cas("k", "other", "x")));
    // 64 bytes and its id for a session, 32 and its encoding for an answer: two with two answers, a third with one.
    for (const client of ["a", "b"]) applyCommand(machine, request(client, 2, cas("k", "other", "x")));
    expect(machine.sessionCount).toBe(2);
    applyCommand(machine, request("c", 1, cas("k", "other", "x")));
    expect(machine.sessionCount).toBe(2);
    expect(applyCommand(machine, request("a", 1, put("k", "again"))).outcome).toBe(SESSION_EXPIRED);
    expect(applyCommand(machine, request("b", 2, cas("k", "other", "x"))).outcome).toBe(MISMATCH);
    expect(text(machine.get(Buffer.from("k"))!.value)).toBe("v".repeat(100));
  });

  test("keep a late retry of a forgotten client from being carried out, whatever came since (T6)", async () => {
    const machine = await make(ONE);
    applyCommand(machine, request("a", 1, put("k", "a")));
    applyCommand(machine, request("b", 1, put("k", "b"), 0, 1));
    expect(applyCommand(machine, request("a", 1, put("k", "a")))).toMatchObject({
      outcome: SESSION_EXPIRED,
      index: 3n,
    });
    expect(applyCommand(machine, request("a", 2, put("k", "a")))).toMatchObject({
      outcome: SESSION_EXPIRED,
      index: 4n,
    });
    expect(contents(machine)).toEqual(["k=b@2"]);
    // What was refused left no trace: b is still known.
    expect(applyCommand(machine, request("b", 1, put("k", "b"))).index).toBe(2n);
  });

  test("keep their horizon over a restore (T6)", async () => {
    const before = await make(ONE);
    applyCommand(before, request("a", 1, put("k", "a")));
    applyCommand(before, request("b", 1, put("k", "b"), 0, 1));
    const after = await make(ONE);
    await after.restore(inPieces(await payloadOf(before), 10), metaAt({ index: 2, term: 1 }));
    expect(applyCommand(after, request("a", 1, put("k", "a"))).outcome).toBe(SESSION_EXPIRED);
    expect(contents(after)).toEqual(["k=b@2"]);
  });

  test("take a client that knows an index at or above the horizon for new, and one below it for possibly forgotten (T6)", async () => {
    const machine = await make(ONE);
    applyCommand(machine, request("a", 1, put("k", "a")));
    applyCommand(machine, request("a", 2, put("k", "a")));
    applyCommand(machine, request("b", 1, put("k", "b"), 0, 2));
    expect(applyCommand(machine, request("c", 1, put("k", "c"), 0, 1)).outcome).toBe(SESSION_EXPIRED);
    expect(applyCommand(machine, request("c", 1, put("k", "c"), 0, 2)).outcome).toBe(OK);
  });

  test("ignore an index that the log has not reached, because it belongs to another log (T6)", async () => {
    const machine = await make(ONE);
    expect(applyCommand(machine, request("a", 1, put("k", "a"), 0, 1)).outcome).toBe(SESSION_EXPIRED);
    expect(applyCommand(machine, request("a", 1, put("k", "a"), 0, 3)).outcome).toBe(SESSION_EXPIRED);
    expect(applyCommand(machine, request("a", 1, put("k", "a"), 0, 2)).outcome).toBe(OK);
    // From now on the session is known, and the index of no matter.
    expect(applyCommand(machine, request("a", 2, put("k", "a"), 0, 99)).outcome).toBe(OK);
  });

  test("let a request without an index be carried out until a client is forgotten", async () => {
    const machine = await make();
    for (let at = 1; at <= 20; at++) {
      expect(applyCommand(machine, request(`${at}`, 1, put("k", "v"))).outcome).toBe(OK);
    }
  });

  describe("and that an earlier version left", () => {
    test("follow that version's rules until a command names newer ones", async () => {
      const machine = await make(ONE);
      applyOperation(machine, put("k", LARGE));
      applyCommand(machine, countedRequest("a", 1, cas("k", "other", "x")));
      expect(applyCommand(machine, countedRequest("a", 1, cas("k", "other", "x"))).value).toHaveLength(LARGE.length);
      applyCommand(machine, countedRequest("b", 1, getCommand("none")));
      // Forgotten and not known as such: this is what the newer rules are for.
      expect(applyCommand(machine, countedRequest("a", 1, put("k", "a"))).outcome).toBe(OK);
      applyOperation(machine, put("k", LARGE));
      applyCommand(machine, countedRequest("a", 2, cas("k", "other", "x")));
      expect((await payloadOf(machine)).byteLength).toBeGreaterThan(2 * LARGE.length);

      expect(applyCommand(machine, request("late", 1, put("k", "late"))).outcome).toBe(SESSION_EXPIRED);
      expect(applyCommand(machine, request("a", 2, put("k", "again")))).toMatchObject({
        outcome: MISMATCH,
        index: 7n,
        version: 6n,
        valueForgotten: true,
      });
      expect((await payloadOf(machine)).byteLength).toBeLessThan(LARGE.length + 1024);
      // There is no way back.
      expect(applyCommand(machine, countedRequest("late", 1, put("k", "late"))).outcome).toBe(SESSION_EXPIRED);
    });

    test("lose those beyond the limit of bytes when the rules change (T6)", async () => {
      const bounds = { ...DEFAULT_SESSION_LIMITS, answers: 2, valueBytes: 100 };
      const machine = await make({ ...bounds, bytes: largestSessionBytes(bounds) });
      applyOperation(machine, put("k", "v".repeat(100)));
      for (const client of ["a", "b", "c", "d", "e"]) {
        for (const sequence of [1, 2]) applyCommand(machine, countedRequest(client, sequence, cas("k", "other", "x")));
      }
      expect(machine.sessionCount).toBe(5);
      applyCommand(machine, request("e", 3, getCommand("k")));
      expect(machine.sessionCount).toBe(2);
      expect(applyCommand(machine, request("c", 2, put("k", "again"))).outcome).toBe(SESSION_EXPIRED);
      expect(applyCommand(machine, request("new", 1, put("new", "1"), 0, 10)).outcome).toBe(OK);
    });

    test("stop counting the long values that are dropped when the rules change (T6)", async () => {
      const bounds = { ...DEFAULT_SESSION_LIMITS, answers: 2, valueBytes: 100 };
      const machine = await make({ ...bounds, bytes: largestSessionBytes(bounds) });
      applyOperation(machine, put("k", "v".repeat(1_000)));
      for (const client of ["a", "b", "c"]) {
        for (const sequence of [1, 2]) applyCommand(machine, countedRequest(client, sequence, cas("k", "other", "x")));
      }
      for (const sequence of [3, 4, 5]) applyCommand(machine, request("c", sequence, getCommand("none")));
      expect(machine.sessionCount).toBe(3);
    });

    test("take every client for new when none was forgotten yet", async () => {
      const machine = await make();
      applyCommand(machine, countedRequest("a", 1, put("k", "v")));
      expect(applyCommand(machine, request("b", 1, put("k", "v"))).outcome).toBe(OK);
    });
  });

  test("keep 128 answers of a client until a command names the third rules, and 1,024 from then on", async () => {
    const machine = await make();
    const outcomeOf = (sequence: number, rules: number) =>
      applyCommand(machine, { ...request("c", sequence, put("k", `${sequence}`)), rules }).outcome;
    const before = limits.sessionAnswersBefore;
    for (let sequence = 1; sequence <= before; sequence++) expect(outcomeOf(sequence, sessionRules.bounded)).toBe(OK);
    expect(outcomeOf(1, sessionRules.bounded)).toBe(OK);
    expect(outcomeOf(before + 1, sessionRules.bounded)).toBe(OK);
    expect(outcomeOf(1, sessionRules.bounded)).toBe(RETRY_TOO_OLD);
    const last = limits.sessionAnswers + 1;
    for (let sequence = before + 2; sequence <= last; sequence++)
      expect(outcomeOf(sequence, sessionRules.wide)).toBe(OK);
    expect(outcomeOf(2, sessionRules.wide)).toBe(OK);
    expect(outcomeOf(last + 1, sessionRules.wide)).toBe(OK);
    expect(outcomeOf(2, sessionRules.wide)).toBe(RETRY_TOO_OLD);
    expect(outcomeOf(3, sessionRules.wide)).toBe(OK);
    expect(contents(machine)).toEqual([`k=${last + 1}@${last + 4}`]);
  });

  test("refuse a command that needs the rules of a later version (T6)", async () => {
    const machine = await make();
    const later: CommandInit = { ...request("a", 1, put("k", "v")), rules: NEWEST_RULES + 1 };
    const batch = [entry(1, uncheckedBytes(request("a", 1, put("k", "v")))), entry(2, uncheckedBytes(later))];
    expect(() => machine.apply(batch)).toThrow(
      expect.objectContaining({
        code: "FAILED_PRECONDITION",
        message: expect.stringContaining(`entry 2 needs version ${NEWEST_RULES + 1}`),
      }),
    );
    expect(machine.appliedIndex).toBe(0);
    expect(contents(machine)).toEqual([]);
  });
});

interface Request {
  readonly client: number;
  readonly sequence: number;
}

/** Clients that choose an index once, if they do, and then send requests, each perhaps again long afterwards. */
const story = fc.record({
  knowing: fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
  steps: fc.array(
    fc.record({
      client: fc.nat(7),
      sequence: fc.integer({ min: 1, max: 5 }),
      kind: fc.constantFrom("put", "put", "cas"),
      restored: fc.boolean(),
    }),
    { minLength: 10, maxLength: 80 },
  ),
});

test("no request is carried out twice, and no retry gets another's answer, however few sessions there is room for (T6)", async () => {
  const bounds = { ...DEFAULT_SESSION_LIMITS, answers: 3, valueBytes: 8 };
  const sessionLimits = { ...bounds, sessions: 3, bytes: largestSessionBytes(bounds) };
  await fc.assert(
    fc.asyncProperty(story, async ({ knowing, steps }) => {
      let machine = new MemoryMachine(sessionLimits);
      const chosen = new Map<number, number>();
      const carriedOut = new Map<string, bigint>();
      for (const { client, sequence, kind, restored } of steps) {
        const index = machine.appliedIndex + 1;
        if (!chosen.has(client)) chosen.set(client, knowing[client] ? index - 1 : 0);
        const operation = kind === "put" ? put(`${client}`, "v") : cas("none", "1", "2");
        const result = applyCommand(machine, request(`${client}`, sequence, operation, 0, chosen.get(client)));
        check({ client, sequence }, result, BigInt(index), carriedOut);
        if (restored) machine = await moved(machine, sessionLimits);
      }
    }),
    { numRuns: runs(100, 300) },
  );
});

function check(
  { client, sequence }: Request,
  { outcome, index }: { outcome: CommandOutcome; index: bigint },
  now: bigint,
  carriedOut: Map<string, bigint>,
): void {
  const name = `${client}/${sequence}`;
  if (outcome === OK || outcome === NOT_FOUND) {
    if (index === now) expect(carriedOut.has(name), `${name} is carried out once`).toBe(false);
    else expect(index, `${name} gets its own answer`).toBe(carriedOut.get(name));
    carriedOut.set(name, index);
  } else expect([RETRY_TOO_OLD, SESSION_EXPIRED]).toContain(outcome);
}

/** The state on another machine, by way of a snapshot. */
async function moved(machine: MemoryMachine, sessionLimits: typeof DEFAULT_SESSION_LIMITS): Promise<MemoryMachine> {
  const other = new MemoryMachine(sessionLimits);
  await other.restore(inPieces(await payloadOf(machine), 100), metaAt({ index: machine.appliedIndex, term: 1 }));
  return other;
}
