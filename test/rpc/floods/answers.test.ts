import { expect, test } from "vitest";
import { answerWithRoom, type CallContext } from "../../../src/rpc/call_context.js";
import { EncodedMessage } from "../../../src/rpc/codec.js";
import { until } from "../../support/conditions.js";
import { settled } from "../../support/nodes/loopback.js";
import { call, GET, guarded, openSession, RANGE } from "./support.js";

const MiB = 1024 * 1024;

/** Parts of a range, without end. */
async function* parts(count: { made: number }) {
  for (;;) {
    count.made++;
    yield { kvs: [{ value: Buffer.alloc(MiB / 2) }] };
  }
}

test("streams of a connection that does not read wait until it reads", async () => {
  const count = { made: 0 };
  const { address, guard } = await guarded({ connectionAnswerBytes: 2 * MiB }, { range: () => parts(count) });
  const session = await openSession(address);
  const calls = Array.from({ length: 20 }, () => call(session, RANGE, undefined, { reads: false }));
  // Each of them could make two parts, if it were alone.
  expect(await settled(() => count.made)).toBeLessThan(12);
  expect(guard.answers.unsent).toBeLessThan(5 * MiB);
  const made = count.made;
  for (const { stream } of calls) stream.resume();
  await until(() => count.made > made + 50, "they go on");
});

test("one answer to many streams, each of which had room before it came, waits for room, and is once in memory", async () => {
  const bytes = Buffer.concat([Buffer.from([0x12, 0x80, 0x80, 0x20]), Buffer.alloc(512 * 1024)]);
  let answer: (bytes: Buffer) => void = () => {};
  const answered = new Promise<Buffer>((resolve) => {
    answer = resolve;
  });
  let begun = 0;
  async function* range() {
    begun++;
    yield new EncodedMessage(await answered, () => {});
  }
  const { address, guard } = await guarded({ answerBytes: 4 * MiB }, { range });
  const session = await openSession(address);
  for (let at = 0; at < 50; at++) call(session, RANGE, undefined, { reads: false });
  await until(() => begun === 50, "all streams wait for it");
  const before = process.memoryUsage().arrayBuffers;
  answer(bytes);
  await until(() => guard.answers.waiting > 30, "most of them wait for room");
  expect(guard.answers.unsent).toBeLessThan(6 * MiB);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * MiB);
});

test("another connection, which reads, does not wait for those that do not", async () => {
  const count = { made: 0 };
  const { address, guard } = await guarded(
    { answerBytes: 2 * MiB, slowReaderMsUnderPressure: 60_000 },
    { range: () => parts(count), get: async () => ({ kv: { value: Buffer.alloc(1_000) } }) },
  );
  const slow = await openSession(address);
  for (let at = 0; at < 20; at++) call(slow, RANGE, undefined, { reads: false });
  await until(() => guard.answers.unsent > 2 * MiB, "the room is taken");
  expect(await call(await openSession(address), GET).end).toMatchObject({ status: 0 });
});

test.each([
  ["after slowReaderMs", { slowReaderMs: 200 }, 1],
  ["soon while the node has answerBytes", { answerBytes: MiB, slowReaderMsUnderPressure: 200 }, 3],
])("a stream that nobody reads is ended %s", async (_when, limits, count) => {
  const { address, guard } = await guarded(limits, { range: () => parts({ made: 0 }) });
  const session = await openSession(address);
  const unread = Array.from({ length: count }, () => call(session, RANGE, undefined, { reads: false }));
  expect(await Promise.race(unread.map(({ end }) => end))).toMatchObject({ reset: 11 });
  await until(() => guard.answers.unsent <= MiB, "there is room again");
});

test("reads that wait are not carried out when their connection is closed", async () => {
  let made = 0;
  const get = (_request: unknown, context: CallContext) =>
    answerWithRoom(
      context,
      () => {
        made++;
        return { kv: { value: Buffer.alloc(MiB) } };
      },
      () => MiB,
    );
  const { address, guard } = await guarded({ connectionAnswerBytes: 2 * MiB }, { get });
  const session = await openSession(address);
  for (let at = 0; at < 50; at++) call(session, GET, undefined, { reads: false });
  await until(() => guard.answers.waiting > 40, "they wait");
  const before = made;
  for (const each of guard.sessions) each.destroy();
  await until(() => guard.answers.waiting === 0 && guard.answers.unsent === 0, "all of them have ended");
  expect(made).toBe(before);
});

test("a connection with too many streams that nobody reads is closed", async () => {
  const { address } = await guarded({ slowReaderMs: 200, slowReaderStreams: 2 }, { range: () => parts({ made: 0 }) });
  const session = await openSession(address);
  for (let at = 0; at < 3; at++) call(session, RANGE, undefined, { reads: false });
  await until(() => session.destroyed, "the connection is closed");
});

test("a stream that is read slowly, but is read, is not ended", async () => {
  const slowReaderMs = 1_000;
  async function* range() {
    for (;;) yield { kvs: [{ value: Buffer.alloc(MiB / 64) }] };
  }
  const { address } = await guarded({ slowReaderMs }, { range });
  const { stream, hasEnded } = call(await openSession(address), RANGE, undefined, { reads: false });
  const began = performance.now();
  stream.on("data", () => {
    stream.pause();
    setTimeout(() => stream.resume(), 20);
  });
  await until(() => hasEnded() || performance.now() - began > 1.5 * slowReaderMs, "the time of a slow reader is over");
  expect(hasEnded()).toBe(false);
});
