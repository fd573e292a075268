import { describe, expect, test } from "vitest";
import { ReadQueue } from "../../../src/raft/leader/read_index.js";

describe("reads that wait", () => {
  test("want a message that is sent after they came", () => {
    const reads = new ReadQueue();
    expect(reads.wantedRound).toBeUndefined();
    reads.add(1, 7, 3);
    expect(reads.wantedRound).toBe(7);
    reads.add(2, 9, 3);
    expect(reads.wantedRound).toBe(9);
  });

  test("are answered with the commit index at their arrival, when a majority has answered that message", () => {
    const reads = new ReadQueue();
    reads.add(1, 7, 3);
    reads.confirm(6, 50);
    expect(reads.takeAnswers()).toEqual([]);
    reads.confirm(7, 50);
    expect(reads.takeAnswers()).toEqual([{ requestId: 1, index: 3 }]);
    expect([reads.wantedRound, reads.takeAnswers()]).toEqual([undefined, []]);
  });

  test("are answered when a majority has answered a later message", () => {
    const reads = new ReadQueue();
    reads.add(1, 7, 3);
    reads.confirm(100, 50);
    expect(reads.takeAnswers()).toEqual([{ requestId: 1, index: 3 }]);
  });

  test("share the message when none was sent between them", () => {
    const reads = new ReadQueue();
    for (const requestId of [1, 2, 3]) reads.add(requestId, 7, 3);
    reads.confirm(7, 3);
    expect(reads.takeAnswers().map(({ requestId }) => requestId)).toEqual([1, 2, 3]);
  });

  test("share the message even when the commit index moved between them, each with its own index", () => {
    const reads = new ReadQueue();
    reads.add(1, 7, 3);
    reads.add(2, 7, 4);
    reads.confirm(7, 9);
    expect(reads.takeAnswers()).toEqual([
      { requestId: 1, index: 3 },
      { requestId: 2, index: 4 },
    ]);
  });

  test("are answered up to the message that is answered, and the rest keeps waiting", () => {
    const reads = new ReadQueue();
    reads.add(1, 7, 3);
    reads.add(2, 8, 4);
    reads.confirm(7, 4);
    expect(reads.takeAnswers()).toEqual([{ requestId: 1, index: 3 }]);
    expect(reads.wantedRound).toBe(8);
  });

  test("get the first known commit index when they came before the leader knew one (Raft section 8)", () => {
    const reads = new ReadQueue();
    reads.add(1, 7, undefined);
    reads.add(2, 7, 5);
    reads.confirm(7, 5);
    expect(reads.takeAnswers()).toEqual([
      { requestId: 1, index: 5 },
      { requestId: 2, index: 5 },
    ]);
  });
});

test("all reads that wait are redirected when this node no longer leads", () => {
  const reads = new ReadQueue();
  reads.add(1, 7, 3);
  reads.add(2, 8, undefined);
  reads.fail();
  expect(reads.takeAnswers()).toEqual([
    { requestId: 1, index: undefined },
    { requestId: 2, index: undefined },
  ]);
  reads.confirm(100, 100);
  expect([reads.wantedRound, reads.takeAnswers()]).toEqual([undefined, []]);
});

test("a read whose answer is known at once waits for nothing", () => {
  const reads = new ReadQueue();
  reads.add(1, 7, 3);
  reads.answer(2, 4);
  expect(reads.takeAnswers()).toEqual([{ requestId: 2, index: 4 }]);
});
