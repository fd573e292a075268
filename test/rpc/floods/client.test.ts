import { expect, onTestFinished, test } from "vitest";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { openChannel } from "../../../src/rpc/client.js";
import { failure } from "../../support/conditions.js";
import { guarded } from "./support.js";

const TOO_MUCH = { metadata: { x: "v".repeat(20_000) } };

test("a client whose call was reset because it was too much knows whether it may try again", async () => {
  const { address } = await guarded({});
  const channel = openChannel(address);
  onTestFinished(() => channel.close());
  const kv = channel.client(KeyValueService);
  expect((await failure("UNREACHABLE", kv.get({}, TOO_MUCH))).retryable).toBe(true);
  expect((await failure("OUTCOME_UNKNOWN", kv.put({}, TOO_MUCH))).retryable).toBe(false);
});

test("a client that was refused because the node has too much learns when to try again", async () => {
  const { address } = await guarded({ streams: 2 }, { get: () => new Promise(() => {}) });
  const channel = openChannel(address);
  onTestFinished(() => channel.close());
  const kv = channel.client(KeyValueService);
  const waiting = kv.get({}).catch(() => {});
  const error = await failure("BUSY", kv.get({}), "the limit streams is 2");
  expect(error).toMatchObject({ retryable: true, retryAfterMs: 200 });
  channel.close();
  await waiting;
});
