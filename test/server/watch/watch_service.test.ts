import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { WatchRequestSchema } from "../../../gen/cairn/v1/kv_pb.js";
import type { CallContext } from "../../../src/rpc/call_context.js";
import { Watches, type WatchServingNode } from "../../../src/server/watch/watch_service.js";

const members = [{ id: "n1", address: "h:1", role: "voter", incarnation: "" }];

test.each([
  ["is new", { membership: { index: 0, members: [] } }, "it is new"],
  ["was removed", { membership: { index: 1, members }, removedAt: 9 }, "it was removed"],
  ["has lost data", { membership: { index: 1, members }, lost: { acknowledged: 9 } }, "it has lost data"],
])("a node that %s names no cluster to a watch: it leaves it to another member", (_, raft, reason) => {
  const appliedLog = { onAdvance: () => () => {} };
  const node = { id: "n1", clusterId: "its own", raft, machine: { appliedIndex: 0 }, appliedLog };
  const watches = new Watches(node as unknown as WatchServingNode, () => ({}));
  const request = create(WatchRequestSchema, { startIndex: 5n, clusterId: "of the watch" });
  const refused = expect.objectContaining({
    code: "NOT_LEADER",
    retryable: true,
    text: expect.stringContaining(reason),
  });
  expect(() => watches.serve(request, {} as CallContext)).toThrow(refused);
});
