import { describe, expect, test } from "vitest";
import type { Response } from "../../src/raft/messages.js";
import { Outbox } from "../../src/raft/outbox.js";

const message = (requestId: number): Response => ({ type: "timeout_now_answer", to: "n2", requestId, term: 1 });

describe("messages that promise nothing new", () => {
  test("are ready at once, in order, and once", () => {
    const outbox = new Outbox();
    outbox.now(message(1));
    outbox.now(message(2));
    expect(outbox.takeNow()).toEqual([message(1), message(2)]);
    expect(outbox.takeNow()).toEqual([]);
  });

  test("do not request a Ready", () => {
    const outbox = new Outbox();
    outbox.now(message(1));
    expect(outbox.isWaiting).toBe(false);
  });
});

describe("messages that promise unwritten entries", () => {
  test("wait for the Ready that writes the entries, and are in it once", () => {
    const outbox = new Outbox();
    outbox.whenDurable(message(1));
    outbox.whenDurable(message(2));
    expect(outbox.takeNow()).toEqual([]);
    expect(outbox.isWaiting).toBe(true);
    expect(outbox.takeWaiting()).toEqual([message(1), message(2)]);
    expect(outbox.isWaiting).toBe(false);
    expect(outbox.takeWaiting()).toEqual([]);
  });

  test("may be overtaken", () => {
    const outbox = new Outbox();
    outbox.whenDurable(message(1));
    outbox.now(message(2));
    expect(outbox.takeNow()).toEqual([message(2)]);
  });
});

test("messages that were taken do not change with later ones", () => {
  const outbox = new Outbox();
  outbox.now(message(1));
  outbox.whenDurable(message(2));
  const taken = [outbox.takeNow(), outbox.takeWaiting()];
  outbox.now(message(3));
  outbox.whenDurable(message(4));
  expect(taken).toEqual([[message(1)], [message(2)]]);
});
