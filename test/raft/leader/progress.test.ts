import { describe, expect, test } from "vitest";
import { Inflight } from "../../../src/raft/leader/inflight.js";
import { Progress } from "../../../src/raft/leader/progress.js";

function progress(): Progress {
  return new Progress("n2", new Inflight(2, 100), 8);
}

const where = ({ match, next, state }: Progress) => [state.kind, match, next];

describe("a member in state probe", () => {
  test("is where progress begins: taken for alive, with nothing known of its log", () => {
    const member = progress();
    expect(where(member)).toEqual(["probe", 0, 8]);
    expect([member.isActive, member.maySend]).toEqual([true, true]);
  });

  test("is sent one message at a time", () => {
    const member = progress();
    member.state = { kind: "probe", isWaiting: true };
    expect(member.maySend).toBe(false);
  });

  test("is never asked about entries that are known to agree", () => {
    const member = progress();
    member.matched(5);
    member.becomeProbe(2);
    expect(where(member)).toEqual(["probe", 5, 6]);
    member.becomeProbe(9);
    expect(where(member)).toEqual(["probe", 5, 9]);
  });

  test("has its in-flight messages forgotten, because they may be lost", () => {
    const member = progress();
    member.inflight.add(1, 100);
    member.becomeProbe(3);
    expect([member.inflight.isEmpty, member.maySend]).toEqual([true, true]);
  });
});

describe("a member in state replicate", () => {
  function replicating(): Progress {
    const member = progress();
    member.matched(5);
    member.becomeReplicate();
    return member;
  }

  test("continues right behind the entries that agree", () => {
    expect(where(replicating())).toEqual(["replicate", 5, 6]);
  });

  test("is sent entries until too much is in flight, by messages or bytes", () => {
    const member = replicating();
    member.inflight.add(1, 1);
    expect(member.maySend).toBe(true);
    member.inflight.add(2, 1);
    expect(member.maySend).toBe(false);
    member.inflight.answered(2);
    member.inflight.add(3, 100);
    expect(member.maySend).toBe(false);
  });

  test("is sent nothing while entries for it are being read", () => {
    const member = replicating();
    member.isReading = true;
    expect(member.maySend).toBe(false);
  });

  test("has its failed snapshot transfers forgotten", () => {
    const member = progress();
    member.becomeSnapshot(20, false);
    member.awaitRetry(1);
    expect(member.failedTransfers).toBe(1);
    member.becomeReplicate();
    expect(member.failedTransfers).toBe(0);
  });
});

describe("a member in state snapshot", () => {
  test("gets no entries", () => {
    const member = progress();
    member.becomeSnapshot(20, false);
    expect([member.state.kind, member.maySend]).toEqual(["snapshot", false]);
  });

  test("gets no second snapshot while one is being sent, however long that takes", () => {
    const member = progress();
    member.becomeSnapshot(20, false);
    expect([member.tickRetry(), member.tickRetry()]).toEqual([false, false]);
  });

  test("is sent the snapshot again a number of ticks after a failure", () => {
    const member = progress();
    member.becomeSnapshot(20, false);
    member.awaitRetry(3);
    expect([member.tickRetry(), member.tickRetry(), member.tickRetry()]).toEqual([false, false, true]);
  });

  test("has its failures counted in a row", () => {
    const member = progress();
    for (const failures of [1, 2, 3]) {
      member.becomeSnapshot(20, false);
      member.awaitRetry(1);
      expect(member.failedTransfers).toBe(failures);
    }
  });

  test("is not charged with a failure that is reported after it has advanced otherwise", () => {
    const member = progress();
    member.becomeProbe(3);
    member.awaitRetry(1);
    expect([member.state.kind, member.failedTransfers, member.tickRetry()]).toEqual(["probe", 0, false]);
  });
});

describe("the acknowledgement of a member", () => {
  test("raises match, and next with it", () => {
    const member = progress();
    member.matched(9);
    expect(where(member)).toEqual(["probe", 9, 10]);
  });

  test("never lowers match", () => {
    const member = progress();
    member.matched(9);
    member.matched(4);
    expect(where(member)).toEqual(["probe", 9, 10]);
  });

  test("does not raise next below the entries that were sent already", () => {
    const member = progress();
    member.next = 20;
    member.matched(9);
    expect(where(member)).toEqual(["probe", 9, 20]);
  });
});
