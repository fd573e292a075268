import { describe, expect, test } from "vitest";
import { changedMembership, type MembershipChange } from "../../../src/raft/membership/membership_change.js";
import type { Membership } from "../../../src/raft/types.js";
import { voters } from "../../support/nodes/core.js";

const learner = (id: string, address = "") => ({ id, address, role: "learner" }) as const;
const members: Membership = [...voters("n1", "n2"), learner("n3")];

/** What becomes of the members, when every learner or none has caught up. */
function changed(change: MembershipChange, { from = members, isCaughtUp = true } = {}) {
  const result = changedMembership(from, change, { isCaughtUp: () => isCaughtUp, answers: () => false });
  if ("unchanged" in result) return "unchanged";
  return "members" in result ? result.members : result.impossible;
}

describe("the change add_learner", () => {
  test("adds a member without a vote (thesis section 4.2.1), with its address, in the order of ids", () => {
    const added = changed({ type: "add_learner", id: "n15", address: "host:1" });
    expect(added).toEqual([{ ...members[0]! }, learner("n15", "host:1"), members[1], members[2]]);
  });

  test.each([
    ["n1", "n1 is a voter already"],
    ["n3", "n3 is a learner already"],
  ])("is impossible for a member: %s", (id, reason) => {
    expect(changed({ type: "add_learner", id, address: "" })).toBe(reason);
  });
});

describe("the change promote", () => {
  test("gives a learner its vote, and changes nothing else", () => {
    expect(changed({ type: "promote", id: "n3" })).toEqual(voters("n1", "n2", "n3"));
  });

  test("is impossible while the learner has not caught up (thesis section 4.2.1)", () => {
    expect(changed({ type: "promote", id: "n3" }, { isCaughtUp: false })).toContain(
      "n3 has not caught up with the log",
    );
  });

  test("asks about the learner that it names", () => {
    const asked: string[] = [];
    changedMembership(
      members,
      { type: "promote", id: "n3" },
      { isCaughtUp: (id) => asked.push(id) > 0, answers: () => false },
    );
    expect(asked).toEqual(["n3"]);
  });

  test("is impossible for a voter", () => {
    expect(changed({ type: "promote", id: "n2" })).toBe("n2 is a voter already");
  });

  test("is impossible for a node that is not a member", () => {
    expect(changed({ type: "promote", id: "n9" })).toBe("n9 is not a member: add it as a learner first");
  });
});

describe("the change remove", () => {
  test.each(["n1", "n2", "n3"])("removes a member, whatever its role: %s", (id) => {
    expect(changed({ type: "remove", id })).toEqual(members.filter((member) => member.id !== id));
  });

  test("is impossible for a node that is not a member", () => {
    expect(changed({ type: "remove", id: "n9" })).toBe("n9 is not a member");
  });

  test("is impossible for the last voter, even when learners would be left", () => {
    expect(changed({ type: "remove", id: "n1" }, { from: [...voters("n1"), learner("n3")] })).toBe(
      "n1 is the last voter",
    );
  });
});

test("a change leaves the membership before it unmodified", () => {
  const before = structuredClone(members);
  changed({ type: "add_learner", id: "n0", address: "" });
  changed({ type: "promote", id: "n3" });
  changed({ type: "remove", id: "n1" });
  expect(members).toEqual(before);
});
