import { expect, test } from "vitest";
import { LeaderSearch } from "../../src/client/leader_search.js";

function search(...endpoints: string[]) {
  const search = new LeaderSearch(endpoints, () => 0);
  /** The next attempts, each of which fails as told. */
  const attempts = (count: number, fail: (address: string) => void) =>
    Array.from({ length: count }, () => {
      const { address, pauseMs } = search.next();
      fail(address);
      return [address, pauseMs];
    });
  return { search, attempts };
}

test("the search for a leader asks every endpoint once without a pause, then after pauses that grow to a bound", () => {
  const { search: leader, attempts } = search("a", "b", "c");
  expect(attempts(11, (address) => leader.unreachable(address))).toEqual([
    ["a", 0],
    ["b", 0],
    ["c", 0],
    ["a", 0],
    ["b", 12.5],
    ["c", 25],
    ["a", 50],
    ["b", 100],
    ["c", 200],
    ["a", 200],
    ["b", 200],
  ]);
});

test("the search for a leader draws its pauses between a half and the whole of the bound", () => {
  const leader = new LeaderSearch(["a"], () => 0.999);
  for (let count = 0; count < 2; count++) leader.unreachable("a");
  const { pauseMs } = leader.next();
  expect(pauseMs).toBeGreaterThan(24.9);
  expect(pauseMs).toBeLessThan(25);
});

test("the search asks the last known leader first, and starts its count anew", () => {
  const { search: leader, attempts } = search("a", "b");
  attempts(6, (address) => leader.unreachable(address));
  leader.found("elsewhere");
  expect(attempts(3, (address) => leader.unreachable(address))).toEqual([
    ["elsewhere", 0],
    ["a", 0],
    ["b", 0],
  ]);
});

test("the search follows a hint at once, but the same hint again only after a pause", () => {
  const { search: leader, attempts } = search("a");
  attempts(4, (address) => leader.unreachable(address));
  const hint = { id: "n2", address: "b" };
  expect(leader.next()).toEqual({ address: "a", pauseMs: 50 });
  leader.notLeader("a", hint);
  expect(leader.next()).toEqual({ address: "b", pauseMs: 0 });
  leader.notLeader("b", { id: "n1", address: "a" });
  expect(leader.next()).toEqual({ address: "a", pauseMs: 0 });
  leader.notLeader("a", hint);
  const again = leader.next();
  expect([again.address, again.pauseMs > 0]).toEqual(["b", true]);
});

test("a hint to an unreachable address is not followed at once, but is not ignored for ever", () => {
  const { search: leader } = search("a", "b");
  const hint = { id: "n9", address: "dead" };
  leader.notLeader("a", hint);
  expect(leader.next().address).toBe("dead");
  leader.unreachable("dead");
  expect(leader.next().address).toBe("a");
  leader.notLeader("a", hint);
  expect(leader.next().address).toBe("b");
  leader.notLeader("b", hint);
  expect(leader.next().address).toBe("dead");
});

test("a hint without an address, or to the answering node itself, is ignored", () => {
  const { search: leader } = search("a", "b");
  leader.next();
  leader.notLeader("a", { id: "n2", address: "" });
  expect(leader.next().address).toBe("b");
  leader.notLeader("b", { id: "n2", address: "b" });
  expect(leader.next().address).toBe("a");
  leader.notLeader("a", { id: "", address: "" });
  expect(leader.next().address).toBe("b");
});

test("an address at which a node has answered is preferred to a hinted one until it fails", () => {
  const { search: leader } = search("a", "b");
  leader.met("n1", "a");
  leader.notLeader("b", { id: "n1", address: "private" });
  expect(leader.next().address).toBe("a");
  leader.unreachable("a");
  leader.notLeader("b", { id: "n1", address: "private" });
  expect(leader.next().address).toBe("private");
});
