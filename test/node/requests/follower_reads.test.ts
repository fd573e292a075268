import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import { FollowerReads } from "../../../src/node/requests/follower_reads.js";
import { AppliedWaiters } from "../../../src/node/requests/waiters.js";
import type { LostData } from "../../../src/raft/state.js";
import { deferred, failure, isSettled, ManualClock, until } from "../../support/conditions.js";

const n1 = { id: "n1", address: "127.0.0.1:1" };
const n2 = { id: "n2", address: "127.0.0.1:2" };

/** A follower whose state has applied 5 entries, and whose questions are answered by hand. */
function follower() {
  const waiters = new AppliedWaiters();
  const node = {
    raft: { lost: undefined as LostData | undefined },
    machine: { appliedIndex: 5 },
    waitApplied: async (index: number) => {
      if (node.machine.appliedIndex < index) await waiters.wait(index);
    },
  };
  const questions: { to: string; answer: (index: number | "unknown") => void; fail: (error: unknown) => void }[] = [];
  const clock = new ManualClock();
  const reads = new FollowerReads(node, clock, ({ id }: typeof n1) => {
    const { promise, resolve, reject } = deferred<number | "unknown">();
    questions.push({ to: id, answer: resolve, fail: reject });
    return promise;
  });
  return {
    node,
    clock,
    questions,
    waiters,
    read: (leader = n1, signal: AbortSignal = new AbortController().signal) => reads.readable(leader, signal),
    apply: (index: number) => {
      node.machine.appliedIndex = index;
      waiters.reached(index);
    },
  };
}

describe("a linearizable read at a follower", () => {
  test("is answered when the follower's state has applied the leader's read index, and not before", async () => {
    const { questions, read, apply } = follower();
    const answer = read();
    questions[0]!.answer(7);
    expect(await isSettled(answer!)).toBe(false);
    apply(6);
    expect(await isSettled(answer!)).toBe(false);
    apply(7);
    expect(await answer).toBe(true);
  });

  test("shares one question with all of its turn of the event loop, and never one that was asked before it", async () => {
    const { questions, read } = follower();
    const first = read();
    const later = [read(), read(), read()];
    expect(questions).toHaveLength(1);
    await until(() => questions.length === 2, "the others are asked for");
    const last = read();
    questions[0]!.answer(5);
    expect(await first).toBe(true);
    expect(await isSettled(later[0]!)).toBe(false);
    questions[1]!.answer(5);
    expect(await Promise.all(later)).toEqual([true, true, true]);
    expect(await isSettled(last!)).toBe(false);
    questions[2]!.answer(5);
    expect(await last).toBe(true);
    expect(questions).toHaveLength(3);
  });

  test("shares the next question while as many are under way as may be", async () => {
    const { questions, read } = follower();
    for (let at = 1; at <= limits.followerReadQuestions; at++) {
      void read();
      await until(() => questions.length === at, "one more is asked");
    }
    const gathered = [read(), read()];
    expect(await isSettled(gathered[0]!)).toBe(false);
    const more = read();
    expect(questions).toHaveLength(limits.followerReadQuestions);
    questions[3]!.answer(5);
    await until(() => questions.length > limits.followerReadQuestions, "the next one is asked");
    questions.at(-1)!.answer(5);
    expect(await Promise.all([...gathered, more])).toEqual([true, true, true]);
  });

  test("fails with the leader's error, and the next one asks again", async () => {
    const { questions, read } = follower();
    const [first, second] = [read(), read()];
    questions[0]!.fail(new CairnError("NOT_LEADER", "deposed"));
    await failure("NOT_LEADER", first!, "deposed");
    await until(() => questions.length === 2, "the second is asked for");
    questions[1]!.answer(5);
    expect(await second).toBe(true);
  });

  test("is passed on when the leader does not know the question", async () => {
    const { questions, read } = follower();
    const answer = read();
    questions[0]!.answer("unknown");
    expect(await answer).toBe(false);
  });

  test("is passed on when the follower has far to go, or cannot apply at all", async () => {
    const { questions, read, waiters } = follower();
    const far = read();
    questions[0]!.answer(5 + limits.followerReadEntries + 1);
    expect(await far).toBe(false);
    const stuck = read();
    questions[1]!.answer(5 + limits.followerReadEntries);
    expect(await isSettled(stuck!)).toBe(false);
    waiters.failAll(new CairnError("DISK_FULL", "no room"));
    expect(await stuck).toBe(false);
  });

  test.each(["the leader's answer", "the state"])(
    "is passed on when %s takes long, with all that gather meanwhile; later ones do not wait",
    async (what) => {
      const { questions, read, apply, clock } = follower();
      const answers = [read(), read()];
      if (what === "the state") questions[0]!.answer(6);
      clock.advance(limits.followerReadMs);
      expect(await Promise.all(answers)).toEqual([false, false]);
      expect(read()).toBeUndefined();
      if (what !== "the state") questions[0]!.answer(6);
      await isSettled(answers[0]!);
      expect(read()).toBeUndefined();
      apply(6);
      await isSettled(answers[0]!);
      const next = read();
      questions.at(-1)!.answer(6);
      expect(await next).toBe(true);
      expect([questions.length, clock.pending]).toEqual([2, 0]);
    },
  );

  test("does not wait for an earlier leader that hangs", async () => {
    const { questions, read } = follower();
    const first = read(n1);
    const gathered = read(n1);
    const other = read(n2);
    expect(questions.map(({ to }) => to)).toEqual(["n1", "n2"]);
    expect(await gathered).toBe(false);
    const next = read(n2);
    await until(() => questions.length === 3, "the next one is asked for");
    // The answer of the earlier leader frees nothing that waits for this one.
    questions[0]!.answer(5);
    expect(await first).toBe(true);
    expect(await isSettled(next!)).toBe(false);
    questions[1]!.answer(5);
    expect(await other).toBe(true);
    questions[2]!.answer(5);
    expect(await next).toBe(true);
  });

  test("ends when its caller gives up, while the others continue to wait", async () => {
    const { questions, read } = follower();
    const controller = new AbortController();
    const [left, stays] = [read(n1, controller.signal), read()];
    controller.abort();
    await failure("CANCELLED", left!);
    questions[0]!.answer(5);
    questions.at(-1)!.answer(5);
    await isSettled(stays!);
    questions.at(-1)!.answer(5);
    expect(await stays).toBe(true);
  });

  test("is passed on by a member that has lost data, whose state proves nothing (T3, T7)", async () => {
    const { node, questions, read } = follower();
    const answer = read();
    node.raft.lost = { acknowledged: 9, has: 5 };
    questions[0]!.answer(5);
    expect(await answer).toBe(false);
    expect(read()).toBeUndefined();
  });
});
