import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { type SessionRequest, SessionRequestSchema } from "../../gen/cairn/v1/kv_pb.js";
import { limits } from "../../src/base/limits.js";
import type { CallContext } from "../../src/rpc/call_context.js";
import type { UnaryCalls } from "../../src/server/kv/kv_service.js";
import { SessionLoad } from "../../src/server/kv/session_load.js";
import { Sessions } from "../../src/server/kv/session_service.js";
import { nextTurn, until, untilAsync } from "../support/conditions.js";
import { memoryHome } from "../support/nodes/nodes.js";

test("streams take their next message in turn while a node has too many bytes of calls, one a turn of the event loop", async () => {
  const load = new SessionLoad();
  expect(load.turn()).toBeUndefined();
  load.add(limits.sessionStreamsBytes + 1);
  const taken: string[] = [];
  for (const name of ["first", "second", "third"]) {
    void load.turn()!.then(() => {
      taken.push(name);
      // What the second takes fills the room again.
      if (name === "second") load.add(2);
    });
  }
  await nextTurn();
  await nextTurn();
  expect(taken).toEqual([]);
  load.add(-2);
  for (let turns = 0; turns < 10; turns++) await nextTurn();
  expect(taken).toEqual(["first", "second"]);
  expect(load.turn(), "a later stream waits behind those that wait").toBeInstanceOf(Promise);
  load.add(-limits.sessionStreamsBytes);
  for (let turns = 0; turns < 10; turns++) await nextTurn();
  expect(taken).toEqual(["first", "second", "third"]);
});

/** Requests that a test hands over one by one: nothing here keeps them. */
class HandedRequests implements AsyncIterableIterator<SessionRequest> {
  #take: ((result: IteratorResult<SessionRequest>) => void) | undefined;

  next(): Promise<IteratorResult<SessionRequest>> {
    return new Promise((resolve) => {
      this.#take = resolve;
    });
  }

  async hand(request: SessionRequest): Promise<void> {
    await until(() => this.#take !== undefined, "the stream reads on");
    const take = this.#take!;
    this.#take = undefined;
    take({ done: false, value: request });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

test("a stream that waits for its next message does not keep the last one in memory", async () => {
  const node = await memoryHome().startLeader();
  setFlagsFromString("--expose_gc");
  const collect = runInNewContext("gc") as () => void;
  const requests = new HandedRequests();
  const controller = new AbortController();
  const context = {
    signal: controller.signal,
    cancel: controller.signal,
    path: "",
    peer: "",
  } as unknown as CallContext;
  const responses = new Sessions(node, {} as UnaryCalls).serve(requests, context)[Symbol.asyncIterator]();
  const hand = async () => {
    const value = Buffer.alloc(1_000_000, 1);
    // Without a key it is refused, so that nothing else keeps the value.
    const call = { sequence: 1n, call: { case: "put", value: { key: Buffer.alloc(0), value } } } as const;
    await requests.hand(create(SessionRequestSchema, { clientId: "c1", calls: [call] }));
    return new WeakRef(value);
  };
  const handed = hand();
  const answered = async () => {
    for (;;) if ((await responses.next()).value?.answers?.length === 1) return;
  };
  await answered();
  const value = await handed;
  void responses.next();
  await untilAsync(async () => {
    collect();
    return value.deref() === undefined;
  }, "the message is forgotten");
  controller.abort();
});
