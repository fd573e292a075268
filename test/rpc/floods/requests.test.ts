import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { PutRequestSchema } from "../../../gen/cairn/v1/kv_pb.js";
import { until } from "../../support/conditions.js";
import { call, grpcMessage, guarded, openSession, PUT, SESSION } from "./support.js";

const KiB = 1024;
const MiB = 1024 * KiB;

function putOf(bytes: number): Buffer {
  const request = { key: Buffer.from("k"), value: Buffer.alloc(bytes, 1) };
  return Buffer.from(toBinary(PutRequestSchema, create(PutRequestSchema, request)));
}

test("messages that are being received are refused above requestBytes, when they say how large they are", async () => {
  const { address, guard } = await guarded({ requestBytes: 8 * MiB });
  const session = await openSession(address);
  const large = grpcMessage(putOf(1.5 * MiB));
  const partial = Array.from({ length: 8 }, () => call(session, PUT, large.subarray(0, 60 * KiB), { ends: false }));
  await until(() => partial.some(({ hasEnded }) => hasEnded()), "one is refused");
  const refused = partial.filter(({ hasEnded }) => hasEnded());
  const { status, code, text } = await refused[0]!.end;
  expect({ status, code }).toEqual({ status: 8, code: "BUSY" });
  expect(text).toContain("the limit requestBytes is 8388608");
  // Others with small messages do not notice.
  expect(await call(await openSession(address), PUT, grpcMessage(putOf(100))).end).toMatchObject({ status: 0 });
  for (const { stream } of partial) stream.close();
  await until(() => guard.requestsTaken === 0, "all room is free again");
  expect(await call(session, PUT, large).end).toMatchObject({ status: 0 });
});

test("a request counts until its call is answered", async () => {
  const answers: (() => void)[] = [];
  const put = () => new Promise<object>((resolve) => answers.push(() => resolve({})));
  const { address, guard } = await guarded({ requestBytes: 8 * MiB }, { put });
  const running = call(await openSession(address), PUT, grpcMessage(putOf(MiB)));
  await until(() => answers.length === 1, "the call is under way");
  expect(guard.requestsTaken).toBeGreaterThan(MiB);
  answers[0]!();
  await running.end;
  await until(() => guard.requestsTaken === 0, "it no longer counts");
});

test("a slow message makes room for one that comes at once", async () => {
  const { address, guard } = await guarded({ requestBytes: 8 * MiB });
  const large = grpcMessage(putOf(1.5 * MiB));
  const sessions = [await openSession(address), await openSession(address), await openSession(address)];
  const slow = sessions.map((session) => call(session, PUT, large.subarray(0, 10), { ends: false }));
  await until(() => guard.requestsTaken > 4.5 * MiB, "they have taken the room");
  // Nothing comes for two looks at it.
  const now = Date.now();
  for (const later of [3_000, 6_000]) guard.look(now + later);
  const other = await openSession(address);
  let last: Awaited<ReturnType<typeof call>["end"]>;
  do last = await call(other, PUT, large).end;
  while (last.status === 8);
  expect(last).toMatchObject({ status: 0 });
  expect(await slow[0]!.end).toMatchObject({ status: 8 });
});

test("a stream waits for room, and then resumes where it was", async () => {
  const received: number[] = [];
  const { address, guard } = await guarded(
    { requestBytes: 8 * MiB, smallRequestReserveBytes: 1 },
    {
      put: async () => ({}),
      async *session(requests) {
        for await (const { clientId } of requests) {
          received.push(clientId.length);
          yield {};
        }
      },
    },
  );
  const large = grpcMessage(putOf(1.5 * MiB));
  const sessions = await Promise.all(Array.from({ length: 5 }, () => openSession(address)));
  const partial = sessions.map((session) => call(session, PUT, large.subarray(0, 60 * KiB), { ends: false }));
  await until(() => guard.requestsTaken > 7 * MiB, "the room is taken");
  // A field with a text of 1 MiB: tag 1, length, bytes.
  const text = Buffer.concat([Buffer.from([10, 0x80, 0x80, 0x40]), Buffer.alloc(MiB, "a")]);
  const stream = call(await openSession(address), SESSION, Buffer.concat([grpcMessage(text), grpcMessage(text)]));
  await until(() => guard.heldStreams === 1, "the stream waits");
  for (const each of partial) each.stream.close();
  expect(await stream.end).toMatchObject({ status: 0 });
  expect(received).toEqual([MiB, MiB]);
});

test("a message that inflates too far is refused with the name of the limit", async () => {
  const { address, guard } = await guarded({});
  const session = await openSession(address);
  const headers = { "grpc-encoding": "gzip" };
  const bomb = grpcMessage(gzipSync(putOf(3 * MiB)), true);
  const { status, text } = await call(session, PUT, bomb, { headers }).end;
  expect(status).toBe(3);
  expect(text).toContain("inflateFactor (64)");
  expect(await call(session, PUT, grpcMessage(gzipSync(putOf(30 * KiB)), true), { headers }).end).toMatchObject({
    status: 0,
  });
  await until(() => guard.requestsTaken === 0, "nothing is left over");
});

test("a message that is too large is refused as ever", async () => {
  const { address } = await guarded({});
  const head = Buffer.from([0, 0, 0x50, 0, 0]);
  const { status, text } = await call(await openSession(address), PUT, head, { ends: false }).end;
  expect(status).toBe(3);
  expect(text).toContain("above the limit messageBytes");
});
