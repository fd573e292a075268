import { describe, expect, test } from "vitest";
import { Inflight } from "../../../src/raft/leader/inflight.js";
import { Progress } from "../../../src/raft/leader/progress.js";

function progress(): Progress {
  return new Progress("n2", new Inflight(2, 100), 8);
}

const where = ({ match, next, state }: Progress) => [state.kind, match, next];

describe("probe", () => {
  test("is where a member begins: it is taken for alive, and nothing is known of its log", () => {
    const member = progress();
    expect(where(member)).toEqual(["probe", 0, 8]);
    expect([member.isActive, member.maySend]).toEqual([true, true]);
  });

  test("one message at a time", () => {
    const member = progress();
    member.state = { kind: "probe", isWaiting: true };
    expect(member.maySend).toBe(false);
  });

  test("never asks about what is known to agree", () => {
    const member = progress();
    member.matched(5);
    member.becomeProbe(2);
    expect(where(member)).toEqual(["probe", 5, 6]);
    member.becomeProbe(9);
    expect(where(member)).toEqual(["probe", 5, 9]);
  });

  test("forgets what was in flight: it may be lost", () => {
    const member = progress();
    member.inflight.add(1, 100);
    member.becomeProbe(3);
    expect([member.inflight.isEmpty, member.maySend]).toEqual([true, true]);
  });
});

describe("replicate", () => {
  function replicating(): Progress {
    const member = progress();
    member.matched(5);
    member.becomeReplicate();
    return member;
  }

  test("goes on right behind what agrees", () => {
    expect(where(replicating())).toEqual(["replicate", 5, 6]);
  });

  test("sends until too much is in flight, by messages or bytes", () => {
    const member = replicating();
    member.inflight.add(1, 1);
    expect(member.maySend).toBe(true);
    member.inflight.add(2, 1);
    expect(member.maySend).toBe(false);
    member.inflight.answered(2);
    member.inflight.add(3, 100);
    expect(member.maySend).toBe(false);
  });

  test("sends nothing while entries for it are being read", () => {
    const member = replicating();
    member.isReading = true;
    expect(member.maySend).toBe(false);
  });

  test("forgets that transfers of snapshots had failed", () => {
    const member = progress();
    member.becomeSnapshot(20, false);
    member.awaitRetry(1);
    expect(member.failedTransfers).toBe(1);
    member.becomeReplicate();
    expect(member.failedTransfers).toBe(0);
  });
});

describe("snapshot", () => {
  test("a member in it gets no entries", () => {
    const member = progress();
    member.becomeSnapshot(20, false);
    expect([member.state.kind, member.maySend]).toEqual(["snapshot", false]);
  });

  test("while it is being sent, no time leads to another one", () => {
    const member = progress();
    member.becomeSnapshot(20, false);
    expect([member.tickRetry(), member.tickRetry()]).toEqual([false, false]);
  });

  test("when it could not be sent, it is time to try again after so many ticks", () => {
    const member = progress();
    member.becomeSnapshot(20, false);
    member.awaitRetry(3);
    expect([member.tickRetry(), member.tickRetry(), member.tickRetry()]).toEqual([false, false, true]);
  });

  test("failures are counted, in a row", () => {
    const member = progress();
    for (const failures of [1, 2, 3]) {
      member.becomeSnapshot(20, false);
      member.awaitRetry(1);
      expect(member.failedTransfers).toBe(failures);
    }
  });

  test("a failure that is told late, when the member has got on otherwise, counts for nothing", () => {
    const member = progress();
    member.becomeProbe(3);
    member.awaitRetry(1);
    expect([member.state.kind, member.failedTransfers, member.tickRetry()]).toEqual(["probe", 0, false]);
  });
});

describe("what a member has told of its log", () => {
  test("moves match up, and next with it", () => {
    const member = progress();
    member.matched(9);
    expect(where(member)).toEqual(["probe", 9, 10]);
  });

  test("never down", () => {
    const member = progress();
    member.matched(9);
    member.matched(4);
    expect(where(member)).toEqual(["probe", 9, 10]);
  });

  test("does not move next below what was sent already", () => {
    const member = progress();
    member.next = 20;
    member.matched(9);
    expect(where(member)).toEqual(["probe", 9, 20]);
  });
});
