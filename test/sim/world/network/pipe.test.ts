import { expect, test } from "vitest";
import { Trace } from "../../run/trace.js";
import { SimRandom } from "../random.js";
import { Scheduler } from "../time/scheduler.js";
import type { SimNetwork } from "./network.js";
import { Pipe } from "./pipe.js";

function setUp(window = Number.POSITIVE_INFINITY) {
  const scheduler = new Scheduler(new Trace(), { settled: () => undefined });
  const random = new SimRandom(1);
  const link = { isBlocked: false };
  const network = { isBlocked: () => link.isBlocked, delay: () => random.between(1, 50) } as unknown as SimNetwork;
  const node = { id: "n2", life: 1, isPaused: false, deferred: [] };
  const pipe = new Pipe<number>({ scheduler, network }, "n1", node, window, "message");
  const run = (ms: number) => {
    scheduler.after(ms, undefined, "end", () => scheduler.stop());
    return scheduler.run();
  };
  const got: unknown[] = [];
  const read = async () => {
    try {
      for await (const message of pipe) got.push(message);
      got.push("end");
    } catch (error) {
      got.push((error as Error).message);
    }
  };
  return { scheduler, link, pipe, run, got, read };
}

const numbers = Array.from({ length: 100 }, (_, at) => at);

test("a simulated pipe delivers all messages in order, even when its link is blocked for a while", async () => {
  const { scheduler, link, pipe, run, got, read } = setUp();
  void read();
  for (const number of numbers) {
    scheduler.after(number * 7, undefined, "send", () => void pipe.send(number));
  }
  for (const ms of [50, 300, 520]) {
    scheduler.after(ms, undefined, "block", () => {
      link.isBlocked = true;
    });
    scheduler.after(ms + 90, undefined, "unblock", () => {
      link.isBlocked = false;
    });
  }
  scheduler.after(701, undefined, "end", () => pipe.end());
  await run(5_000);
  expect(got).toEqual([...numbers, "end"]);
});

test("a sender waits while the pipe's window is full, until the reader has taken some", async () => {
  const { scheduler, pipe, run, got, read } = setUp(3);
  let sent = 0;
  const send = async () => {
    for (const number of numbers) {
      await pipe.send(number);
      sent += 1;
    }
  };
  void send();
  scheduler.after(1_000, undefined, "read", () => {
    expect(sent).toBe(2);
    void read();
  });
  await run(100_000);
  expect(got).toEqual(numbers);
  expect(sent).toBe(100);
});

test("an error arrives behind the messages in transit, or at once, and also reaches waiting senders", async () => {
  const late = setUp(1);
  void late.read();
  const waiting = late.pipe.send(1);
  waiting.catch(() => {});
  late.pipe.failLater(new Error("broken"));
  await late.run(1_000);
  await expect(waiting).rejects.toThrow("broken");
  expect(late.got).toEqual([1, "broken"]);
  await expect(late.pipe.send(2)).rejects.toThrow("broken");

  const now = setUp();
  void now.read();
  void now.pipe.send(1);
  now.pipe.fail(new Error("broken"));
  await now.run(1_000);
  expect(now.got).toEqual(["broken"]);
});

test("a reader that leaves the pipe stops the sender", async () => {
  const { pipe, run } = setUp(1);
  const waiting = pipe.send(1);
  waiting.catch(() => {});
  await pipe.return();
  await run(1_000);
  await expect(waiting).rejects.toThrow("nobody reads");
  await expect(pipe.next()).resolves.toEqual({ done: true, value: undefined });
});
