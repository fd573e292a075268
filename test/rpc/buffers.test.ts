import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { IncomingMessages } from "../../src/rpc/incoming_messages.js";
import { OutgoingMessages } from "../../src/rpc/outgoing_messages.js";
import { collect } from "../support/nodes/loopback.js";

/** Messages whose source delivers one of `size` bytes for each read, at once, up to `most` of them. */
function incoming(size: number, most = Number.POSITIVE_INFINITY) {
  const seen = { reads: 0, abandoned: 0 };
  const messages = new IncomingMessages<number>({
    startRead: () => {
      if (seen.reads === most) return messages.end();
      seen.reads++;
      queueMicrotask(() => {
        messages.push(Buffer.alloc(size));
        messages.readNext();
      });
    },
    decode: (bytes) => bytes.byteLength,
    abandoned: () => {
      seen.abandoned++;
    },
  });
  messages.readNext();
  return { messages, seen };
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe("IncomingMessages", () => {
  test.each([
    ["64 KiB", 64 * 1024, 5],
    ["the largest size", limits.messageBytes, 1],
    ["no bytes", 0, 1025],
  ])("reads at most a bounded number of messages of %s ahead", async (_, size, most) => {
    const { messages, seen } = incoming(size);
    await turn();
    expect(seen.reads).toBeGreaterThan(0);
    expect(seen.reads).toBeLessThanOrEqual(most);
    const before = seen.reads;
    await turn();
    expect(seen.reads).toBe(before);

    for (let taken = 1; taken <= 10; taken++) {
      expect(await messages.next()).toEqual({ done: false, value: size });
      await turn();
      expect(seen.reads).toBe(before + taken);
    }
  });

  test("tells of a message that has come, and of the end, without taking it", async () => {
    const { messages } = incoming(1_000, 1);
    const arrived = messages.arrival();
    expect(arrived).toBeInstanceOf(Promise);
    await arrived;
    expect(messages.arrival(), "there is one").toBeUndefined();
    expect(await messages.next()).toEqual({ done: false, value: 1_000 });
    await turn();
    expect(messages.arrival(), "there is the end").toBeUndefined();
    const open = new IncomingMessages({ startRead: () => {}, decode: (bytes) => bytes, abandoned: () => {} });
    const ended = open.arrival();
    open.fail(new Error("broken"));
    await ended;
    await expect(open.next()).rejects.toThrow("broken");
  });

  test("returns all messages, then the end", async () => {
    const { messages } = incoming(1000, 700);
    expect(await collect(messages)).toHaveLength(700);
    expect(await messages.next()).toEqual({ done: true, value: undefined });
  });

  test("returns the messages that have arrived before a failure, and drops them at an abort", async () => {
    const broken = incoming(10, 2).messages;
    await turn();
    // The source has ended it already; a failure after the end changes nothing.
    broken.fail(new Error("late"));
    expect(await collect(broken)).toEqual([10, 10]);

    const failed = incoming(limits.messageBytes).messages;
    await turn();
    failed.fail(new Error("broken"));
    expect((await failed.next()).done).toBe(false);
    await expect(failed.next()).rejects.toThrow("broken");
    await expect(failed.next()).rejects.toThrow("broken");

    const aborted = incoming(10, 2).messages;
    await turn();
    aborted.abort(new Error("cancelled"));
    await expect(aborted.next()).rejects.toThrow("cancelled");
  });

  test("drains an abandoned stream, and drops what arrives", async () => {
    const { messages, seen } = incoming(limits.messageBytes, 20);
    for await (const _ of messages) break;
    expect(seen.abandoned).toBe(1);
    await turn();
    expect(seen.reads).toBe(20);
    expect(await messages.next()).toEqual({ done: true, value: undefined });
  });

  test("throws an error to the consumer for a message that cannot be decoded", async () => {
    const messages = new IncomingMessages<number>({
      startRead() {},
      decode: () => {
        throw new Error("no message");
      },
      abandoned() {},
    });
    messages.push(Buffer.alloc(1));
    await expect(messages.next()).rejects.toThrow("no message");
    const waiting = messages.next();
    messages.push(Buffer.alloc(1));
    await expect(waiting).rejects.toThrow("no message");
  });
});

describe("OutgoingMessages", () => {
  /** A network that takes a message when told to. */
  function outgoing() {
    const writes: { bytes: Buffer; written: () => void }[] = [];
    return { messages: new OutgoingMessages((bytes, written) => void writes.push({ bytes, written })), writes };
  }

  async function isPending(promise: Promise<unknown>): Promise<boolean> {
    const pending = Symbol("pending");
    return (await Promise.race([promise, Promise.resolve(pending)])) === pending;
  }

  test("writes one message after the other, in order, and the end last", () => {
    const { messages, writes } = outgoing();
    let ended = false;
    for (const byte of [1, 2, 3]) void messages.send(Buffer.from([byte]));
    messages.end(() => {
      ended = true;
    });
    for (const byte of [1, 2, 3]) {
      expect(writes).toHaveLength(byte);
      expect(writes.at(-1)!.bytes[0]).toBe(byte);
      expect(ended).toBe(false);
      writes.at(-1)!.written();
    }
    expect(ended).toBe(true);
  });

  test("makes its callers wait when more than the limit is queued behind the write in progress", async () => {
    const { messages, writes } = outgoing();
    const half = Buffer.alloc(limits.streamBufferBytes / 2);
    const sends = Array.from({ length: 4 }, () => messages.send(half));
    await turn();
    expect(await Promise.all(sends.map(isPending))).toEqual([false, false, true, true]);
    writes[0]!.written();
    expect(await Promise.all(sends.map(isPending))).toEqual([false, false, true, true]);
    writes[1]!.written();
    await Promise.all(sends);
  });

  test("accepts a message of any size while the one before is being written", async () => {
    const { messages, writes } = outgoing();
    const large = Buffer.alloc(limits.messageBytes);
    const sends = Array.from({ length: 3 }, () => messages.send(large));
    expect(await Promise.all(sends.map(isPending))).toEqual([false, true, true]);
    writes[0]!.written();
    expect(await Promise.all(sends.map(isPending))).toEqual([false, true, true]);
    writes[1]!.written();
    await Promise.all(sends);
  });

  test("reports a failure to waiting and later callers, and writes nothing more", async () => {
    const { messages, writes } = outgoing();
    await messages.send(Buffer.alloc(1));
    const waiting = messages.send(Buffer.alloc(limits.messageBytes));
    void messages.send(Buffer.alloc(1)).catch(() => {});
    messages.fail(new Error("gone"));
    await expect(waiting).rejects.toThrow("gone");
    await expect(messages.send(Buffer.alloc(1))).rejects.toThrow("gone");
    writes[0]!.written();
    expect(writes).toHaveLength(1);
  });
});
