import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { GetStatusResponseSchema } from "../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { ClusterView, type StatusAnswer } from "../../src/client/admin/cluster_view.js";

function answer(address: string, clusterId: string): StatusAnswer {
  return { address, status: create(GetStatusResponseSchema, { nodeId: address, clusterId }) };
}

describe("endpoints that nobody named", () => {
  test("are refused when nodes of two clusters answer there, with the cluster of each", () => {
    const view = new ClusterView([answer("h:7102", "blue"), answer("h:7101", "red"), answer("h:7103", "")]);
    const text = "nodes of several clusters answer (h:7101 of red, h:7102 of blue)";
    const refused = expect.objectContaining({ code: "WRONG_CLUSTER", text: expect.stringContaining(text) });
    expect(() => view.expectOneCluster()).toThrow(refused);
  });

  test("may hold nodes that do not answer, and new ones of no cluster yet", () => {
    const silent = { address: "h:7103", error: new CairnError("UNREACHABLE", "nobody is there") };
    const view = new ClusterView([answer("h:7101", "red"), answer("h:7102", ""), silent]);
    expect(() => view.expectOneCluster()).not.toThrow();
  });
});

test("a node is new until it knows the members of its cluster", () => {
  const member = { membership: { members: [{ id: "n1", address: "h:7101" }] } };
  const old = { address: "h:7101", status: create(GetStatusResponseSchema, { nodeId: "n1", ...member }) };
  const silent = { address: "h:7103", error: new CairnError("UNREACHABLE", "nobody is there") };
  expect(new ClusterView([old, silent]).hasNewNode).toBe(false);
  expect(new ClusterView([old, answer("h:7102", "")]).hasNewNode).toBe(true);
});

test("a caller that every node refuses learns of the refusal", () => {
  const silent = { address: "h:7101", error: new CairnError("UNREACHABLE", "nobody is there") };
  const refused = { address: "h:7102", error: new CairnError("UNAUTHENTICATED", "who are you") };
  const error = (code: string, text: string) => expect.objectContaining({ code, text });
  expect(() => new ClusterView([silent])).toThrow(error("UNREACHABLE", "no node answers: nobody is there"));
  const text = "no node answers this caller: nobody is there; who are you";
  expect(() => new ClusterView([silent, refused])).toThrow(error("UNAUTHENTICATED", text));
});
