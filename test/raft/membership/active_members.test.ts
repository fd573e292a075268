import { expect, test } from "vitest";
import type { Raft } from "../../../src/raft/raft.js";
import { accept, startLeaderOf, toN2 } from "../../support/nodes/core.js";

const ELECTION_TICKS = 10;

/** n1 has led three for so many ticks, in which n2 alone has answered; the answers to the last tick's heartbeats are still to come. */
function afterTicks(ticks: number): Raft {
  const raft = startLeaderOf(["n2", "n3"], { elections: "automatic", electionTicks: ELECTION_TICKS });
  for (let tick = 1; tick <= ticks; tick++) {
    for (let sent = toN2(raft); sent.length > 0; sent = toN2(raft)) {
      for (const request of sent) raft.receive(accept(request));
    }
    raft.tick();
  }
  return raft;
}

test("a member that answers counts as active at any moment, and one that does not is detected", () => {
  for (let ticks = 1; ticks <= 3 * ELECTION_TICKS; ticks++) {
    const active = afterTicks(ticks).progress.filter(({ isActive }) => isActive);
    const expected = ticks < 2 * ELECTION_TICKS ? ["n2", "n3"] : ["n2"];
    expect(
      active.map(({ id }) => id),
      `after ${ticks} ticks`,
    ).toEqual(expected);
  }
});

test("leadership is handed to a member that answers, at whatever moment", () => {
  for (let ticks = 1; ticks <= 2 * ELECTION_TICKS; ticks++) {
    const raft = afterTicks(ticks);
    expect(raft.transferLeadership(undefined), `after ${ticks} ticks`).toEqual({ allowed: true });
    expect(raft.transferTarget).toBe("n2");
  }
});
