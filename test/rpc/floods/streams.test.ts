import { expect, test } from "vitest";
import { until, untilAsync } from "../../support/conditions.js";
import { call, GET, grpcMessage, guarded, openSession, PUT, SESSION, VOTE } from "./support.js";

const NOTHING = Buffer.alloc(0);
const never = () => new Promise<never>(() => {});

test("calls above streams are refused with the name of the limit, those of peers are not", async () => {
  let started = 0;
  const get = () => {
    started++;
    return never();
  };
  // A connection that is alone has three quarters of them.
  const { address } = await guarded({ streams: 8 }, { get });
  const session = await openSession(address);
  const calls = Array.from({ length: 7 }, () => call(session, GET));
  const { status, text, code } = await calls[6]!.end;
  expect({ status, code }).toEqual({ status: 8, code: "BUSY" });
  expect(text).toContain("the limit streams is 8");
  expect(await call(await openSession(address), VOTE).end).toMatchObject({ status: 0 });
  calls[0]!.stream.close();
  await untilAsync(async () => {
    const next = call(session, GET);
    await until(() => next.hasEnded() || started === 7, "the call is refused or carried out");
    return started === 7;
  }, "there is room again");
});

test("a connection with more than its share of streams is refused before the others are", async () => {
  const { address } = await guarded({ streams: 16 }, { get: never });
  const [greedy, modest] = [await openSession(address), await openSession(address)];
  const calls = Array.from({ length: 13 }, () => call(greedy, GET));
  expect(await calls[12]!.end).toMatchObject({ status: 8 });
  const last = call(modest, GET);
  await call(greedy, GET).end;
  expect(last.hasEnded()).toBe(false);
});

test.each([
  ["a unary call without a message", GET, NOTHING],
  ["a stream without a message", SESSION, NOTHING],
  ["a message that does not end", PUT, grpcMessage(Buffer.alloc(100)).subarray(0, 50)],
])("the server ends %s", async (_what, path, message) => {
  const session = async function* (requests: AsyncIterable<unknown>) {
    for await (const _ of requests) yield {};
  };
  const { address } = await guarded({ messageMs: 100 }, { session, put: never, get: never });
  const { status, text } = await call(await openSession(address), path, message, { ends: false }).end;
  expect(status).toBe(4);
  expect(text).toContain("messageMs (100 ms)");
});

test("a large message has the time that it takes at the lowest rate", async () => {
  const { address } = await guarded({ messageMs: 1, messageRateBytes: 1_000 });
  const session = await openSession(address);
  const message = grpcMessage(Buffer.alloc(600));
  const slow = call(session, PUT, message.subarray(0, 300), { ends: false });
  const small = call(session, PUT, grpcMessage(Buffer.alloc(50)).subarray(0, 10), { ends: false });
  expect(await small.end).toMatchObject({ status: 4 });
  expect(slow.hasEnded()).toBe(false);
  expect(await slow.end).toMatchObject({ status: 4 });
});

test("a call that nobody answers ends after callMs, a stream does not", async () => {
  const { address } = await guarded(
    { callMs: 100, callMsMax: 100_000, messageMs: 100 },
    {
      get: never,
      async *session(requests) {
        for await (const _ of requests) yield {};
        await never();
      },
    },
  );
  const session = await openSession(address);
  const stream = call(session, SESSION, grpcMessage(NOTHING), { ends: false });
  const timed = call(session, GET, undefined, { headers: { "grpc-timeout": "90S" } });
  const { status, text } = await call(session, GET).end;
  expect(status).toBe(4);
  expect(text).toContain("callMs (100 ms)");
  expect(timed.hasEnded() || stream.hasEnded()).toBe(false);
});

test("a stream whose caller keeps its half open after the answer is closed", async () => {
  const { address, guard } = await guarded({}, { get: async () => ({}) });
  const session = await openSession(address);
  // Two messages are one too many: the call is answered before its caller ends it.
  const message = Buffer.concat([grpcMessage(NOTHING), grpcMessage(NOTHING)]);
  const { end } = call(session, GET, message, { ends: false });
  const later = Date.now() + 3_000;
  const looking = setInterval(() => {
    guard.look(later);
    guard.look(later + 3_000);
  }, 20);
  try {
    expect(await end).toMatchObject({ status: 12 });
  } finally {
    clearInterval(looking);
  }
});
