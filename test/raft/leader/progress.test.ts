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
    member.probed();
    expect(member.maySend).toBe(false);
  });

  test("a message with entries is the one message, and moves nothing", () => {
    const member = progress();
    member.sentEntries(1, 3, 100);
    expect([where(member), member.maySend, member.isQuiet]).toEqual([["probe", 0, 8], false, true]);
  });

  test("a rejection that no correct leader meets makes it wait for a heartbeat", () => {
    const member = progress();
    member.rejected();
    expect([where(member), member.maySend]).toEqual([["probe", 0, 8], false]);
  });

  test("moves up to the boundary when what it asks about is trimmed", () => {
    const member = progress();
    member.probeFromBoundary(5);
    expect(where(member)).toEqual(["probe", 0, 8]);
    member.probeFromBoundary(20);
    expect(where(member)).toEqual(["probe", 0, 21]);
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
    member.becomeReplicate();
    member.sentEntries(1, 1, 100);
    expect([member.isQuiet, member.maySend]).toEqual([false, false]);
    member.becomeProbe(3);
    expect([member.isQuiet, member.maySend]).toEqual([true, true]);
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
    member.sentEntries(1, 1, 1);
    expect([member.next, member.maySend]).toEqual([7, true]);
    member.sentEntries(2, 2, 1);
    expect([member.next, member.maySend]).toEqual([9, false]);
    member.answered(2);
    expect([member.isQuiet, member.maySend]).toEqual([true, true]);
    member.sentEntries(3, 1, 100);
    expect(member.maySend).toBe(false);
  });

  test("a heartbeat never moves it to the boundary", () => {
    const member = replicating();
    member.probeFromBoundary(20);
    expect(where(member)).toEqual(["replicate", 5, 6]);
  });

  test("a rejection that no correct leader meets changes nothing", () => {
    const member = replicating();
    member.rejected();
    expect([where(member), member.maySend]).toEqual([["replicate", 5, 6], true]);
  });

  test("is sent nothing while entries for it are being read", () => {
    const member = replicating();
    member.readBegun();
    expect([member.maySend, member.isQuiet]).toEqual([false, false]);
    member.readEnded();
    expect([member.maySend, member.isQuiet]).toEqual([true, true]);
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
    member.becomeProbe(20);
    member.matched(9);
    expect(where(member)).toEqual(["probe", 9, 20]);
  });
});

describe("the rounds of a member", () => {
  test("begin with none, and are those of the messages sent and answered", () => {
    const member = progress();
    const rounds = () => [member.sentRound, member.ackedRound, member.sentCommit];
    expect(rounds()).toEqual([0, 0, 0]);
    member.sent(4, 7);
    expect(rounds()).toEqual([4, 0, 7]);
    member.answered(4);
    member.answered(2);
    expect(rounds()).toEqual([4, 4, 7]);
  });

  test("an answer is a sign of life, which counts until the second look after it", () => {
    const member = progress();
    member.looked();
    member.looked();
    expect([member.isActive, member.answers]).toEqual([false, false]);
    member.answered(1);
    expect([member.isActive, member.answers]).toEqual([true, true]);
    member.looked();
    expect([member.isActive, member.answers]).toEqual([false, true]);
  });
});

test("the decision to send the log stands until the member has reached its index", () => {
  const member = progress();
  expect(member.isByLog).toBe(false);
  member.decidedByLog(12);
  member.matched(11);
  expect(member.isByLog).toBe(true);
  member.matched(12);
  expect(member.isByLog).toBe(false);
});
