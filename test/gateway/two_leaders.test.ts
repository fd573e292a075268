import { expect, onTestFinished, test } from "vitest";
import { Fields } from "../../src/gateway/fields.js";
import { LogCompaction } from "../../src/gateway/log_compaction.js";
import { serve } from "../support/nodes/served_node.js";
import { get, put } from "./support.js";

test("entries that are refused, and that the node turns out to have, are answered as entries that it has", async () => {
  const { node, server, admin, kv } = await serve();
  const served = { id: node.id, address: server.address, admin, kv };
  const [first, second] = [new LogCompaction(served, 20_000), new LogCompaction(served, 20_000)];
  onTestFinished(() => {
    first.close();
    second.close();
  });
  const apply = (leader: LogCompaction, entries: readonly object[]) => leader.applyEntries(new Fields({ entries }));
  // The second leader knows the log up to here.
  await apply(second, [put(1, "x", "0")]);
  const entries = [put(2, "x", "1"), get(3, "x"), put(4, "x", "2"), get(5, "x")];
  await apply(first, entries);
  await apply(first, [{ ...put(6, "y", "1"), term: 2 }]);
  const [type, { last_applied: last }] = (await apply(second, entries)) as [string, { last_applied: number }];
  expect([type, last]).toEqual(["apply_entries_ok", 6]);
});
