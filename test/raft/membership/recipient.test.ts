import { expect, test } from "vitest";
import { misdirected } from "../../../src/raft/membership/recipient.js";

const own = { clusterId: "c1", id: "n1", incarnation: "a1" };

test("a message is for the directory that it names, and for no other (T1)", () => {
  expect(misdirected(own, own)).toBeUndefined();
  expect(misdirected({ ...own, clusterId: "c2" }, own)).toEqual({ what: "cluster_id", expected: "c1", got: "c2" });
  expect(misdirected({ ...own, id: "n2" }, own)).toEqual({ what: "receiver_id", expected: "n1", got: "n2" });
  const former = { what: "receiver_incarnation", expected: "a1", got: "a0" };
  expect(misdirected({ ...own, incarnation: "a0" }, own)).toEqual(former);
});

test("a message to a given identity is not meant for an incarnation, nor the reverse (T1)", () => {
  const given = { ...own, incarnation: "" };
  expect(misdirected(given, given)).toBeUndefined();
  expect(misdirected(given, own)).toMatchObject({ what: "receiver_incarnation" });
  expect(misdirected(own, given)).toMatchObject({ what: "receiver_incarnation" });
});

test("a directory without a cluster accepts no message, whatever it names (T2)", () => {
  expect(misdirected({ ...own, clusterId: "" }, { ...own, clusterId: "" })).toEqual({ isNew: true });
});
