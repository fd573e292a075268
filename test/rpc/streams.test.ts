import { describe, expect, test } from "vitest";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { addService } from "../../src/rpc/server.js";
import { collect, deferred, loopback, settled } from "../support/nodes/loopback.js";

describe("a client that leaves", () => {
  test("aborts the signal of its unary handler", async () => {
    const arrived = deferred();
    const reason = deferred<unknown>();
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        get(_request, { signal }) {
          signal.addEventListener("abort", () => reason.resolve(signal.reason));
          arrived.resolve();
          return new Promise(() => {});
        },
      }),
    );
    const controller = new AbortController();
    const call = channel.client(KeyValueService).get({}, { signal: controller.signal });
    await arrived.promise;
    controller.abort();
    await expect(call).rejects.toMatchObject({ code: "CANCELLED" });
    expect(await reason.promise).toMatchObject({ code: "CANCELLED" });
  });

  test("starts no call with an aborted signal, and gets the signal's CairnError", async () => {
    let called = false;
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async get() {
          called = true;
          return {};
        },
      }),
    );
    const reason = new CairnError("STOPPED", "stopping");
    const call = channel.client(KeyValueService).get({}, { signal: AbortSignal.abort(reason) });
    await expect(call).rejects.toBe(reason);
    expect(called).toBe(false);
  });

  test("ends the generator of its server stream, even one that waits", async () => {
    const finished = deferred();
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async *watch(_request, { signal }) {
          try {
            yield { events: [] };
            await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
          } finally {
            finished.resolve();
          }
        },
      }),
    );
    for await (const _ of channel.client(KeyValueService).watch({})) break;
    await finished.promise;
  });

  test("makes a generator that never waits return", async () => {
    const finished = deferred();
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async *range() {
          try {
            for (let count = 0; count < 10_000; count++) yield { kvs: [{ value: new Uint8Array(10_000) }] };
            throw new Error("it was never returned");
          } finally {
            finished.resolve();
          }
        },
      }),
    );
    let received = 0;
    for await (const _ of channel.client(KeyValueService).range({})) if (++received === 100) break;
    await finished.promise;
  });

  test("makes a generator that ignores its signal return when it resumes", async () => {
    const waiting = deferred();
    const goOn = deferred();
    const cancelled = deferred();
    const finished = deferred();
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async *range(_request, { signal }) {
          signal.addEventListener("abort", () => cancelled.resolve());
          try {
            waiting.resolve();
            await goOn.promise;
            for (;;) yield {};
          } finally {
            finished.resolve();
          }
        },
      }),
    );
    const answers = channel.client(KeyValueService).range({})[Symbol.asyncIterator]();
    await waiting.promise;
    await answers.return?.();
    await cancelled.promise;
    goOn.resolve();
    await finished.promise;
  });

  test("ends the requests of its bidirectional handler with CANCELLED", async () => {
    const arrived = deferred();
    const failed = deferred<unknown>();
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        async *appendEntries(requests) {
          try {
            for await (const { round } of requests) {
              arrived.resolve();
              yield { round };
            }
          } catch (error) {
            failed.resolve(error);
            throw error;
          }
        },
      }),
    );
    const call = channel.client(RaftService).appendEntries();
    await call.send({ round: 1n });
    await arrived.promise;
    call.cancel();
    expect(await failed.promise).toMatchObject({ code: "CANCELLED" });
    await expect(call.send({})).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(collect(call.responses)).rejects.toMatchObject({ code: "CANCELLED" });
  });

  test("has its calls cancelled when its connection is lost, too", async () => {
    const arrived = deferred();
    const failed = deferred<unknown>();
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        async *appendEntries(requests) {
          try {
            for await (const _ of requests) arrived.resolve();
            yield {};
          } catch (error) {
            failed.resolve(error);
          }
        },
      }),
    );
    const call = channel.client(RaftService).appendEntries();
    await call.send({});
    await arrived.promise;
    channel.close();
    expect(await failed.promise).toMatchObject({ code: "CANCELLED" });
    await expect(call.send({})).rejects.toMatchObject({ code: "CANCELLED" });
  });
});

describe("a handler that ends before its requests do", () => {
  /**
   * Sends until the call refuses; returns the refusal. A stream that is neither drained nor reset would wait here for ever, and one
   * that never makes its sender wait would not see a refusal.
   */
  async function sendUntilRefused(send: () => Promise<void>): Promise<unknown> {
    for (let count = 0; count < 2000; count++) {
      try {
        await send();
      } catch (error) {
        return error;
      }
    }
    return "never refused";
  }

  const chunk = { message: { case: "chunk" as const, value: { data: new Uint8Array(64 * 1024) } } };

  test("with an answer closes the stream: the client gets the answer and cannot send more", async () => {
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        async *installSnapshot() {
          yield { message: { case: "refused", value: { detail: "busy" } } };
        },
      }),
    );
    const call = channel.client(RaftService).installSnapshot();
    expect(await sendUntilRefused(() => call.send(chunk))).toMatchObject({ code: "FAILED_PRECONDITION" });
    const answers = await collect(call.responses);
    expect(answers.map(({ message }) => message.case)).toEqual(["refused"]);
  });

  test("with an error closes the stream, even after a few requests", async () => {
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        async *installSnapshot(requests) {
          let count = 0;
          for await (const _ of requests) {
            if (++count === 5) throw new CairnError("CORRUPT", "bad chunk");
            yield { message: { case: "progress", value: {} } };
          }
        },
      }),
    );
    const call = channel.client(RaftService).installSnapshot();
    const answers = collect(call.responses);
    const refused = await sendUntilRefused(() => call.send(chunk));
    expect(refused).toMatchObject({ code: "CORRUPT", text: "bad chunk" });
    await expect(answers).rejects.toMatchObject({ code: "CORRUPT", text: "bad chunk" });
  });

  test("by not reading does not stop the sender while it still answers", async () => {
    const sent = deferred();
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        async *installSnapshot(requests) {
          for await (const _ of requests) break;
          await sent.promise;
          yield { message: { case: "installed", value: {} } };
        },
      }),
    );
    const call = channel.client(RaftService).installSnapshot();
    for (let count = 0; count < 200; count++) await call.send(chunk);
    sent.resolve();
    call.end();
    expect(await collect(call.responses)).toHaveLength(1);
  });
});

describe("a slow receiver", () => {
  const messageBytes = 64 * 1024;
  const messages = 2000;
  /** What waits at both ends, and a few messages in the hands of Node and in the server's window. */
  const mostUp = (2 * limits.streamBufferBytes + limits.serverWindowBytes) / messageBytes + 4;
  /** The same, with the client's window of 1 MiB. */
  const mostDown = (2 * limits.streamBufferBytes + 1024 * 1024) / messageBytes + 4;

  test("keeps a generator of 2,000 messages of 64 KiB close to the reader", async () => {
    let yielded = 0;
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async *range() {
          const kvs = [{ value: new Uint8Array(messageBytes) }];
          for (; yielded < messages; yielded++) yield { kvs };
        },
      }),
    );
    let read = 0;
    for await (const _ of channel.client(KeyValueService).range({})) {
      read++;
      // Let the sender run as far as it can, at the start and every so often.
      if (read === 1 || read % 500 === 0) await settled(() => yielded);
      expect(yielded - read).toBeLessThan(mostDown);
    }
    expect(read).toBe(messages);
  });

  test("makes send() wait while the handler does not read", async () => {
    const mayRead = deferred();
    let received = 0;
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        async *installSnapshot(requests) {
          await mayRead.promise;
          for await (const _ of requests) received++;
          yield { message: { case: "installed", value: {} } };
        },
      }),
    );
    const call = channel.client(RaftService).installSnapshot();
    let sent = 0;
    const sending = (async () => {
      for (; sent < messages; sent++) {
        await call.send({ message: { case: "chunk", value: { data: new Uint8Array(messageBytes) } } });
        expect(sent - received).toBeLessThan(mostUp);
      }
      call.end();
    })();
    expect(await settled(() => sent)).toBeLessThan(mostUp);
    mayRead.resolve();
    await sending;
    expect(await collect(call.responses)).toHaveLength(1);
    expect(received).toBe(messages);
  });

  test("holds a few messages of the largest size, not sixteen", async () => {
    const mayRead = deferred();
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        async *installSnapshot(requests) {
          await mayRead.promise;
          for await (const _ of requests);
          yield { message: { case: "installed", value: {} } };
        },
      }),
    );
    const call = channel.client(RaftService).installSnapshot();
    const data = new Uint8Array(limits.messageBytes - 1024);
    let sent = 0;
    const sending = (async () => {
      for (; sent < 30; sent++) await call.send({ message: { case: "chunk", value: { data } } });
      call.end();
    })();
    expect(await settled(() => sent)).toBeLessThan(4);
    mayRead.resolve();
    await sending;
    await collect(call.responses);
  });

  test("does not delay other calls of its connection", async () => {
    let yielded = 0;
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async *range() {
          const kvs = [{ value: new Uint8Array(messageBytes) }];
          for (; yielded < messages; yielded++) yield { kvs };
        },
        get: async () => ({ kv: { value: new Uint8Array(1_000_000) } }),
      }),
    );
    const client = channel.client(KeyValueService);
    const unread = client.range({})[Symbol.asyncIterator]();
    await unread.next();
    expect(await settled(() => yielded)).toBeLessThan(mostDown);
    for (let count = 0; count < 5; count++) expect((await client.get({})).kv!.value).toHaveLength(1_000_000);
    await unread.return?.();
  });
});
